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
