package store

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
)

// A filledDisk takes no write any more once it is full.
type filledDisk struct {
	disk
	full bool
}

func (d *filledDisk) WriteAt(b []byte, off int64) (int, error) {
	if d.full {
		return 0, unix.ENOSPC
	}
	return d.disk.WriteAt(b, off)
}

// What compacting a full disk learns of places without room is not forgotten when it
// gives space back: a cut that is accepted then can be committed.
func TestCutAfterCompactOnFullDisk(t *testing.T) {
	c := crashRun{steps: []step{
		{what: "write", n: 2038, off: 15642, seed: 1}, {what: "close"}, {what: "write", n: 7671, off: 47264, seed: 1}, {what: "sync"},
		{what: "fill"}, {what: "kill"}, {what: "compact", codec: codec.Zstd}, {what: "truncate", off: 404}, {what: "commit"}}}
	if h := c.run(); h.fault != "" {
		t.Error(h.fault)
	}
}

// A store whose index has no room on the disk closes with its log, and is whole.
func TestCloseWithoutRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	f, err := os.Create(path)
	must(t, err)
	d := &filledDisk{disk: fileDisk{f}}
	s, err := createDisk(d, f, CreateOptions{})
	must(t, err)
	want := noise(100<<10, 4)
	_, err = s.WriteAt(want, 0)
	must(t, err)
	must(t, s.Sync())
	d.full = true
	must(t, s.Close())
	for range 2 { // The first one writes what is missing.
		s, err = Open(path, Options{Writable: true})
		must(t, err)
		same(t, s, want)
		must(t, s.Close())
	}
}
