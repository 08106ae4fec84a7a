package store

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Whichever operation of the disk fails while a store is built, there is either no
// error or no store, and the builder is closed.
func TestBuildFails(t *testing.T) {
	plain := noise(3*MinFrameSize, 1)
	for at, failed := 0, true; failed; at++ {
		failed = false
		d := &simDisk{fail: func(n int) error {
			if n != at {
				return nil
			}
			failed = true
			return unix.EIO
		}}
		sb, err := newSuperblock(CreateOptions{FrameSize: MinFrameSize})
		must(t, err)
		w, err := buildOn(d, nil, sb)
		must(t, err)
		b := &batch{}
		must(t, w.s.compressBatch(b, plain, 0))
		if err := w.append(b); err != nil {
			must(t, w.s.Discard())
			continue
		}
		_, err = w.finish(int64(len(plain)))
		s, none := openDisk(d, nil, Options{})
		if (err == nil) != (none == nil) {
			t.Errorf("operation %d fails: %v, and to open the store: %v", at, err, none)
		}
		if err == nil && none == nil {
			same(t, s, plain)
		}
		if !w.s.closed {
			t.Errorf("operation %d fails: %v, and the builder is not closed", at, err)
		}
	}
}

// What waits to be written together with frames that follow is written in its own place
// when they lie elsewhere: behind a part of the index.
func TestBuildAroundIndex(t *testing.T) {
	d := &simDisk{}
	sb, err := newSuperblock(CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	w, err := buildOn(d, nil, sb)
	must(t, err)
	plain := noise(MinFrameSize, 1)
	for n := range int64(2*leavesPerFlush + 2) {
		b := &batch{}
		must(t, w.s.compressBatch(b, plain, n*fanout<<w.s.shift))
		must(t, w.append(b))
	}
	_, err = w.finish((2*leavesPerFlush + 2) * fanout << w.s.shift)
	must(t, err)
	s, err := openDisk(d, nil, Options{})
	must(t, err)
	for _, damage := range checked(t, s) {
		t.Error(damage)
	}
}

// What a builder has of the index in memory does not grow with the number of frames,
// however far these lie from each other.
func TestBuildSparse(t *testing.T) {
	sb, err := newSuperblock(CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	w, err := buildOn(&simDisk{}, nil, sb)
	must(t, err)
	b := &batch{}
	for n := range int64(2 * keptNodes) {
		b.addZero(n << (2 * fanoutBits))
	}
	must(t, w.append(b))
	if n := w.s.idx.loaded(w.s.idx.root); n > keptNodes+2*leavesPerFlush {
		t.Errorf("%d nodes of the index are in memory, want %d at most", n, keptNodes+2*leavesPerFlush)
	}
	_, err = w.finish(MaxSize)
	must(t, err)
}
