package store

import (
	"context"
	"errors"
	"testing"
)

// A copy of a store that is being written has its newest generation, whatever was
// written since; and the store goes on with that.
func TestCopyOfWriter(t *testing.T) {
	const frame = MinFrameSize
	for _, size := range []int{5, 3000, 10*frame + 5} {
		for _, keep := range []func(*Store) error{(*Store).Commit, (*Store).Sync, (*Store).checkpointNow} {
			for what, change := range map[string]func(s *Store) error{
				"nothing":  func(*Store) error { return nil },
				"write":    func(s *Store) error { _, err := s.WriteAt(noise(3*frame, 2), int64(size)-1); return err },
				"frame":    func(s *Store) error { return s.WriteFrame(0, noise(min(size, frame), 2)) },
				"punch":    func(s *Store) error { return s.Punch(0, 9*frame) },
				"cut":      func(s *Store) error { return s.Truncate(2) },
				"truncate": func(s *Store) error { return firstError(s.Truncate(0), s.Truncate(3*frame)) },
				"grow":     func(s *Store) error { return s.Truncate(1 << 20) },
			} {
				s, err := createDisk(&simDisk{}, nil, CreateOptions{FrameSize: frame})
				must(t, err)
				want := noise(size, 1)
				mustWrite(t, s, want, 0)
				must(t, keep(s))
				must(t, change(s))
				before, err := readAll(s)
				must(t, err)
				f := tempFile(t)
				must(t, Copy(context.Background(), f, s, nil))
				verifyStore(t, f.Name(), want)
				same(t, s, before)
				must(t, s.Close())
				if t.Failed() {
					t.Fatalf("%d bytes, then %s", size, what)
				}
			}
		}
	}
}

// A store is written and read while it is copied.
func TestCopyBesideWrites(t *testing.T) {
	s, err := createDisk(&simDisk{}, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := noise(3*copyBatch, 1)
	mustWrite(t, s, want, 0)
	must(t, s.Sync())
	now := noise(len(want), 2)
	f := tempFile(t)
	must(t, Copy(context.Background(), f, s, func(done, _ int64) {
		mustWrite(t, s, now[:done], 0)
		if s.gate.TryLock() {
			t.Errorf("at %#x a commit can give up what is copied", done)
			s.gate.Unlock()
		}
		same(t, s, append(now[:done:done], want[done:]...))
	}))
	verifyStore(t, f.Name(), want)
	same(t, s, now)
}

// A frame that is damaged is not copied as if it were whole, and what was to be the copy
// is no store.
func TestCopyDamaged(t *testing.T) {
	f := newForge()
	e := f.frame(kindRaw, 0, noise(MinFrameSize, 1))
	image := f.leaf(e).image()
	image[e.off()+frameHeadLen] ^= 1
	s, err := openImage(image)
	must(t, err)
	to := tempFile(t)
	if err := Copy(context.Background(), to, s, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("copy of a damaged store: %v, want damage", err)
	}
	if s, err := Open(to.Name(), Options{}); err == nil {
		t.Error("what was to be the copy is a store")
		s.Close()
	}
}
