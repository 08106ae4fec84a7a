package uffdmap

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// A frame whose stored bytes were changed gives ErrDamaged, with path and offset,
// to every call that needs it and to every goroutine; the frames around it are
// read, and nothing stays pinned.
func TestDamagedFrame(t *testing.T) {
	const frame, frames, bad = 16 << 10, 200, 77
	want := plainBytes(newRand(t), frames*frame)
	copy(want[bad*frame:], bytes.Repeat([]byte("something"), 100))
	path := newStore(t, want, frame)
	damageFrame(t, path, bad)
	v := openView(t, path, Options{MemoryLimit: 150 * frame})

	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := v.View(bad*frame+5, 1)
			var d *store.DamageError
			if !errors.Is(err, ErrDamaged) || !errors.As(err, &d) || d.Path != path || d.Plain.Off != bad*frame {
				t.Errorf("view of the damaged frame: %v, want ErrDamaged with path and offset", err)
			}
		})
	}
	wg.Wait()
	if _, err := v.View((bad-1)*frame, 3*frame); !errors.Is(err, ErrDamaged) {
		t.Errorf("view around the damaged frame: %v, want ErrDamaged", err)
	}
	if err := v.Prefetch(Range{bad * frame, 1}); !errors.Is(err, ErrDamaged) {
		t.Errorf("prefetch of the damaged frame: %v, want ErrDamaged", err)
	}
	got := make([]byte, len(want))
	n, err := v.ReadAt(got, 0)
	if !errors.Is(err, ErrDamaged) || n > bad*frame || n%frame != 0 {
		t.Errorf("read of all: %d, %v, want whole frames before frame %d and ErrDamaged", n, err, bad)
	}
	same(t, "bytes before the damage", got[:n], want[:n])
	for _, at := range []int{0, bad - 1, bad + 1, frames - 1} {
		s, err := v.View(int64(at*frame), frame)
		must(t, "view beside the damage", err)
		same(t, "view beside the damage", s.Bytes(), want[at*frame:(at+1)*frame])
		s.Release()
	}
	// Had any of the failed calls left a pin, this much would not fit any more.
	s, err := v.View((bad+1)*frame, (frames-bad-1)*frame)
	must(t, "view of all behind the damage", err)
	same(t, "view of all behind the damage", s.Bytes(), want[(bad+1)*frame:])
	s.Release()
	resident := int64(0)
	for n := range v.frames {
		w := v.frames[n].Load()
		if w&(pinMask|editMask|frameBusy) != 0 {
			t.Errorf("frame %d is left with word %#x, want no pins", n, w)
		}
		if w&frameResident != 0 {
			resident += frame
		}
	}
	if got := v.Stats().Resident; got != resident {
		t.Errorf("%d bytes count as resident, %d are", got, resident)
	}
	if v.Stats().Damaged == 0 {
		t.Error("no damage is counted")
	}
}

// A View of more than a huge page that fails leaves no frame pinned, and none unpinned
// that it had not pinned, wherever it ends.
func TestFailedViewOfHugePages(t *testing.T) {
	const frame, bad = 16 << 10, 5
	want := bytes.Repeat([]byte("lazy"), 2*hugeSize/4)
	clear(want[hugeSize:])
	path := newStore(t, want, frame)
	damageFrame(t, path, bad)
	for beyond := int64(1); beyond < hugeSize; beyond += 100 << 10 {
		v := openView(t, path, Options{})
		if _, err := v.View(0, hugeSize+beyond); !errors.Is(err, ErrDamaged) {
			t.Errorf("view of %#x bytes: %v, want ErrDamaged", hugeSize+beyond, err)
		}
		for n := range v.frames {
			if w := v.frames[n].Load(); w&(pinMask|editMask|frameBusy) != 0 {
				t.Errorf("after a view of %#x bytes: frame %d is left with word %#x, want no pins", hugeSize+beyond, n, w)
				break
			}
		}
		s, err := v.View(hugeSize, hugeSize)
		must(t, "view of what is not damaged", err)
		same(t, "view of what is not damaged", s.Bytes(), want[hugeSize:])
		s.Release()
	}
}

// What could be brought in only in part leaves nothing behind that would be in the way of
// the next attempt.
func TestFailedViewLeavesNothing(t *testing.T) {
	const frame = 16 << 10
	want := bytes.Repeat([]byte("lazy"), 2*frame/4)
	v := openView(t, newStore(t, want, frame), Options{})
	other, err := v.scratch.get()
	must(t, "get memory", err)
	defer v.scratch.put(other)
	must(t, "put a page in the way", v.place(v.mem.b[frame:frame+store.PageSize], other.addr, false))
	if _, err := v.View(0, 2*frame); !errors.Is(err, unix.EEXIST) {
		t.Errorf("view: %v, want EEXIST", err)
	}
	s, err := v.View(0, 2*frame)
	must(t, "view again", err)
	defer s.Release()
	same(t, "view", s.Bytes(), want)
}

// damageFrame flips a byte in the stored frame n.
func damageFrame(t *testing.T, path string, n int64) {
	t.Helper()
	s, err := store.Open(path, store.Options{})
	must(t, "open", err)
	info, err := s.FrameInfo(n)
	must(t, "frame info", err)
	must(t, "close", s.Close())
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, "open file", err)
	defer f.Close()
	var b [1]byte
	at := info.Off + info.Stored/2
	_, err = f.ReadAt(b[:], at)
	must(t, "read file", err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	must(t, "write file", err)
}
