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

// A write to a store that was cut to what fits into its superblock takes no room of a
// full disk, also where little may wait in memory.
func TestWriteToCutStoreOnFullDisk(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(9*MinFrameSize, 1), MinFrameSize)
	must(t, s.checkpointNow())
	must(t, s.Discard())
	d.setFull(true)
	reopen := func() {
		s, err = openDisk(d, nil, Options{Writable: true, DirtyBytes: 1})
		must(t, err)
	}
	reopen()
	must(t, s.Truncate(1000)) // Which the log tells: the first frame is a hole.
	must(t, s.Commit())
	must(t, s.Discard())
	reopen()
	want := noise(1000, 2)
	mustWrite(t, s, want, 0)
	s.flusher.Wait()
	must(t, s.Sync())
	r, err := openDisk(diskWith(d.durable), nil, Options{})
	must(t, err)
	same(t, r, want)
}

// A store with a log is opened for writing on a full disk also where the file system can't
// reserve, so that only the index tells that there is no room for it.
func TestOpenWithoutRoomForIndex(t *testing.T) {
	d := unreservedDisk{&simDisk{}}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := make([]byte, fanout*MinFrameSize) // With a leaf that is long.
	copy(want[len(want)-MinFrameSize:], noise(MinFrameSize, 1))
	mustWrite(t, s, want, 0)
	must(t, s.Sync())
	must(t, s.Discard())
	d.setFull(true)
	for range 2 {
		s, err = openDisk(d, nil, Options{Writable: true})
		must(t, err)
		same(t, s, want)
		must(t, s.Close())
	}
	s, err = openDisk(d, nil, Options{Writable: true})
	must(t, err)
	must(t, s.Truncate(0))
	must(t, s.Close())
}
