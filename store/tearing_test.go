package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A tearingDisk shows one superblock as who reads it in the middle of a write sees it:
// so many times, each time otherwise.
type tearingDisk struct {
	fileDisk
	slot, left int
}

func (d *tearingDisk) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.fileDisk.ReadAt(p, off)
	if off == 0 && d.left > 0 {
		p[d.slot*slotLen+slotHeadLen+d.left]++
		d.left--
	}
	return n, err
}

// Who opens a store while a superblock is written over the newest one sees that
// generation or the new one, and not what is left of an older one. Once it is known to
// be damaged the other counts.
func TestOpenBesideSuperblock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lazy")
	w, err := Create(path, CreateOptions{})
	must(t, err)
	defer w.Close()
	mustWrite(t, w, []byte("old"), 0)
	must(t, w.Sync())
	old := w.Generation()
	for range 3 {
		mustWrite(t, w, []byte("new"), 0)
		must(t, w.Commit())
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	for reads := range 6 {
		d := &tearingDisk{fileDisk{f}, w.slot, reads}
		r, err := openDisk(d, f, Options{})
		must(t, err)
		if got := r.Generation(); got != w.Generation() || r.pinned != int64(got) {
			t.Errorf("torn for %d reads: sees generation %d, protects %d, want %d", reads, got, r.pinned, w.Generation())
		}
		must(t, unpin(f, uint64(r.pinned)))
	}

	image, err := os.ReadFile(path)
	must(t, err)
	image[w.slot*slotLen+slotHeadLen]++
	if sum, whole, err := ProbeBytes(image, int64(len(image))); whole || err != nil {
		t.Errorf("torn, by its bytes: %+v, %t, %v, want no answer", sum, whole, err)
	}
	if s, err := OpenBytes(image, Options{}); err == nil {
		t.Errorf("torn, in memory: opens generation %d, want an error", s.Generation())
	}
	_, err = f.WriteAt(image, 0)
	must(t, err)
	r, err := Open(path, Options{})
	must(t, err)
	defer r.Close()
	if r.Generation() != old {
		t.Errorf("damaged: sees generation %d, want %d", r.Generation(), old)
	}
}

// A copiedDisk is a file that grows and grows, and is far from complete.
type copiedDisk struct {
	fileDisk
	size int64
}

func (d *copiedDisk) Size() (int64, error) {
	d.size++
	return d.size, nil
}

// Nobody waits for a file that is not yet complete.
func TestOpenIncomplete(t *testing.T) {
	file, _, _ := closedFile(t)
	if _, err := openDisk(&copiedDisk{file, dataStart}, file.File, Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v, want damage", err)
	}
}
