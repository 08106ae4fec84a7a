package uffdmap

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"lazyfs/store"
)

// gatedSource tells of each frame that is to be read, and reads it when it may.
type gatedSource struct {
	store.Source
	asked chan int64
	gate  chan struct{}
}

func (s gatedSource) ReadFrame(n int64, dst []byte) (bool, error) {
	s.asked <- n
	<-s.gate
	return s.Source.ReadFrame(n, dst)
}

// A read from frame to frame needs no room for two at once.
func TestViewReadsInOneFrame(t *testing.T) {
	const frame = 16 << 10
	want := plainBytes(newRand(t), 8*frame)
	v := openView(t, newStore(t, want, frame), Options{MemoryLimit: frame})
	for _, off := range []int{0, frame - 50, 3*frame + 100} {
		got := make([]byte, 4*frame)
		_, err := v.ReadAt(got, int64(off))
		must(t, "read", err)
		same(t, "read", got, want[off:off+len(got)])
	}
}

// While a call that lets go by itself takes all room, others wait for it, whatever
// they are. While a Span does, they are told.
func TestViewWaitsForRoom(t *testing.T) {
	const frame = 16 << 10
	want := plainBytes(newRand(t), 8*frame)
	for name, call := range map[string]func(v *Viewer) error{
		"ReadAt":  func(v *Viewer) error { _, err := v.ReadAt(make([]byte, 100), 5*frame-50); return err },
		"WriteAt": func(v *Viewer) error { _, err := v.WriteAt(want[5*frame:5*frame+1], 5*frame); return err },
		"WriteAt of a frame": func(v *Viewer) error {
			_, err := v.WriteAt(want[5*frame:6*frame], 5*frame)
			return err
		},
		"Prefetch": func(v *Viewer) error { return v.Prefetch(Range{5 * frame, 1}) },
		"View": func(v *Viewer) error {
			s, err := v.View(5*frame, 1)
			if err == nil {
				s.Release()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := openView(t, newStore(t, want, frame), Options{Writable: true, MemoryLimit: frame})
			gated := gatedSource{v.src, make(chan int64, 10), make(chan struct{})}
			v.src = gated
			first, second := make(chan error, 1), make(chan error, 1)
			go func() { _, err := v.ReadAt(make([]byte, 1), 0); first <- err }()
			<-gated.asked
			go func() { second <- call(v) }()
			eventually(t, "the second call waits", func() bool { return v.someoneWaits() || len(second) > 0 })
			close(gated.gate)
			must(t, "first call", <-first)
			must(t, "second call", <-second)
			s, err := v.View(0, 1)
			must(t, "view", err)
			defer s.Release()
			if err := call(v); !errors.Is(err, ErrLimit) {
				t.Errorf("%s beside a span: %v, want ErrLimit", name, err)
			}
		})
	}
}

// someoneWaits says whether a call that found no room waits for others.
func (v *Viewer) someoneWaits() bool {
	if v.passing.TryRLock() {
		v.passing.RUnlock()
		return false
	}
	return true
}

// A call that finds no room gets what another had held that found none either.
func TestViewWaitsForWhoFails(t *testing.T) {
	const frame = 16 << 10
	v := openView(t, newStore(t, plainBytes(newRand(t), 8*frame), frame), Options{MemoryLimit: 2 * frame})
	held, err := v.View(0, 1)
	must(t, "view of what is held", err)
	defer held.Release()
	gated := gatedSource{v.src, make(chan int64, 10), make(chan struct{})}
	v.src = gated
	failing, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := v.View(2*frame, 2*frame); failing <- err }()
	<-gated.asked
	go func() { _, err := v.ReadAt(make([]byte, 1), 6*frame); second <- err }()
	eventually(t, "the second call waits", func() bool { return v.someoneWaits() || len(second) > 0 })
	close(gated.gate)
	if err := <-failing; !errors.Is(err, ErrLimit) {
		t.Errorf("view of two frames where one is held and two fit: %v, want ErrLimit", err)
	}
	must(t, "read of one", <-second)
}

// Readers of parts of a mapping, each of whom takes a quarter of the limit when it
// can, and viewers of single frames all find room while no more is held than fits.
// When Spans fill it none hangs.
func TestViewReadersShareLimit(t *testing.T) {
	const frame, limit, readers = 16 << 10, 16, 6
	want := bytes.Repeat([]byte("lazy"), readers*64*frame/4)
	v := openView(t, newStore(t, want, frame), Options{Writable: true, MemoryLimit: limit * frame})
	read := func(r int) error {
		got := make([]byte, 64*frame)
		_, err := v.ReadAt(got, int64(r)*64*frame)
		if err == nil && !bytes.Equal(got, want[:len(got)]) {
			err = errors.New("wrong bytes")
		}
		return err
	}
	view := func(r int) error {
		for n := range int64(64) {
			s, err := v.View((int64(r)*64+n)*frame, frame)
			if err != nil {
				return err
			}
			s.Release()
		}
		return nil
	}
	together := func(check func(err error)) {
		var all sync.WaitGroup
		for r := range readers {
			for _, do := range []func(int) error{read, view} {
				all.Go(func() {
					for range 3 {
						check(do(r))
					}
				})
			}
		}
		all.Wait()
	}
	together(func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	s, err := v.Edit(0, limit*frame)
	must(t, "edit", err)
	defer s.Release()
	together(func(err error) {
		if err != nil && !errors.Is(err, ErrLimit) {
			t.Errorf("beside spans that fill the limit: %v, want ErrLimit", err)
		}
	})
}
