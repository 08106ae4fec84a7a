package store

import (
	"os"
	"path/filepath"
	"testing"
)

// A file that an earlier writer left long beside a reader has no blocks where space was
// given back: once the reader is gone a write is accepted only where it has room all the
// same.
func TestReservedBehindPinned(t *testing.T) {
	dir := smallDisk(t, "16m")
	path := filepath.Join(dir, "s.lazy")
	s, err := Create(path, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(16*MinFrameSize, 1), 0)
	must(t, s.Close())
	reader, err := Open(path, Options{})
	must(t, err)
	for range 2 {
		s, err = Open(path, Options{Writable: true})
		must(t, err)
		mustWrite(t, s, noise(MinFrameSize, 2), 0)
		must(t, s.Close())
	}
	must(t, os.Truncate(path, 3<<20))
	s, err = Open(path, Options{Writable: true})
	must(t, err)
	defer s.Discard()
	mustWrite(t, s, noise(MinFrameSize, 3), 0)
	must(t, reader.Close())
	must(t, s.Sync())
	if err := s.blocksFault(); err != nil {
		t.Error(err)
	}
	fillDisk(t, dir)
	for n, page := int64(0), noise(MinFrameSize, 4); err == nil; n++ {
		_, err = s.WriteAt(page, n*MinFrameSize)
	}
	if !isNoSpace(err) {
		t.Errorf("a write on a full disk: %v", err)
	}
	must(t, s.Sync())
}
