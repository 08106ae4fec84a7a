package store

import (
	"os"
	"path/filepath"
	"testing"
)

// A growingDisk is one whose length a writer changes while its first block is read.
type growingDisk struct {
	disk
	before int64 // what Size is the first time
}

func (d *growingDisk) Size() (int64, error) {
	if before := d.before; before > 0 {
		d.before = 0
		return before, nil
	}
	return d.disk.Size()
}

// closedFile is a store of want that was closed, and the size of its file.
func closedFile(t *testing.T) (d fileDisk, size int64, want []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.lazy")
	s, err := Create(path, CreateOptions{})
	must(t, err)
	want = noise(100_000, 1)
	mustWrite(t, s, want, 0)
	must(t, s.Close())
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	d = fileDisk{f}
	size, err = d.Size()
	must(t, err)
	return d, size, want
}

// A log that a writer cuts off while it is opened ends there.
func TestOpenWhileItIsCut(t *testing.T) {
	d, size, want := closedFile(t)
	r, err := openDisk(&growingDisk{d, size + 1<<20}, nil, Options{})
	must(t, err)
	same(t, r, want)
}

// A store that is opened or probed while a writer makes it longer is not taken for
// a damaged one.
func TestOpenWhileItGrows(t *testing.T) {
	d, size, want := closedFile(t)
	for _, before := range []int64{dataStart, size - 1} {
		r, err := openDisk(&growingDisk{d, before}, d.File, Options{})
		if err != nil {
			t.Fatalf("%d of %d bytes at first: %v", before, size, err)
		}
		same(t, r, want)
		begin := make([]byte, ProbeLen)
		_, err = d.ReadAt(begin, 0)
		must(t, err)
		if _, whole, err := ProbeBytes(begin, before); whole {
			t.Errorf("probe with %d of %d bytes: %v, want that only Probe tells", before, size, err)
		}
	}
}
