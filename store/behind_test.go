package store

import (
	"os"
	"path/filepath"
	"testing"
)

// A writer does not wait for the compression of half of what may wait, and reads
// back what it wrote meanwhile. Discard waits for it.
func TestFlushBehind(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "s.lazy"))
	must(t, err)
	d := &steppedDisk{disk: fileDisk{f}}
	s, err := createDisk(d, f, CreateOptions{FrameSize: MinFrameSize, DirtyBytes: 8 * MinFrameSize})
	must(t, err)
	want := noise(7*MinFrameSize, 1)
	d.length, d.writes = int(s.frameRoom()), make(chan chan struct{})
	for off := 0; off < len(want); off += MinFrameSize {
		_, err = s.WriteAt(want[off:off+MinFrameSize], int64(off))
		must(t, err)
	}
	for range 3 {
		goOn := <-d.writes
		same(t, s, want)
		close(goOn)
	}
	s.flusher.Wait()
	if s.flushing || s.dirtyBytes != 4*MinFrameSize {
		t.Errorf("%d bytes wait, still at work %v: want %d, false", s.dirtyBytes, s.flushing, 4*MinFrameSize)
	}

	_, err = s.WriteAt(noise(4*MinFrameSize, 2), 8*MinFrameSize)
	must(t, err)
	discarded := make(chan error)
	go func() { discarded <- s.Discard() }()
	for waits := true; waits; {
		select {
		case goOn := <-d.writes:
			close(goOn)
		case err := <-discarded:
			must(t, err)
			waits = false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flushing {
		t.Error("frames are compressed after Discard")
	}
}
