package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A torndisk has no room for the superblocks, as where their block is shared with a
// copy of the file: of each that is written it takes a few bytes, or none.
type tornDisk struct {
	*simDisk
	full bool
	some int
}

func (d *tornDisk) WriteAt(p []byte, off int64) (int, error) {
	if d.full && off < dataStart {
		n, _ := d.simDisk.WriteAt(p[:d.some], off)
		return n, unix.ENOSPC
	}
	return d.simDisk.WriteAt(p, off)
}

// A full disk that can't even take a superblock again costs nothing that was accepted:
// the log has it, or, where a part of the superblock was written, Sync says that nothing
// is kept yet.
func TestSuperblockOnFullDisk(t *testing.T) {
	for _, some := range []int{0, 100} {
		d := &tornDisk{simDisk: &simDisk{}, some: some}
		s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
		must(t, err)
		want := noise(100*MinFrameSize, 1)
		mustWrite(t, s, want, 0)
		must(t, s.Sync())
		copy(want, noise(MinFrameSize, 2))
		mustWrite(t, s, want[:MinFrameSize], 0)
		must(t, s.Sync())
		synced := bytes.Clone(want)
		d.setFull(true)
		for page := noise(MinFrameSize, 3); err == nil; {
			if _, err = s.WriteAt(page, int64(len(want))); err == nil {
				want = append(want, page...)
			}
		}
		d.full = true
		err = s.Sync()
		if undone := some == 0; undone != (err == nil) || !undone && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("Sync with %d bytes of the superblock written: %v", some, err)
		}
		if err != nil {
			if got, err := readAll(s); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes are left in memory of %d, %v", len(got), len(want), err)
			}
			want = synced
		}
		r, err := openDisk(diskWith(d.now), nil, Options{})
		must(t, err)
		if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes are on disk of %d, %v", len(got), len(want), err)
		}
		if some == 0 {
			continue
		}
		// With room again all of it can be kept.
		want, err = readAll(s)
		must(t, err)
		d.full = false
		d.setFull(false)
		must(t, s.Close())
		r, err = openDisk(diskWith(d.now), nil, Options{})
		must(t, err)
		if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("with room: %d bytes are on disk of %d, %v", len(got), len(want), err)
		}
	}
}

// A halfDisk fails one write, of a superblock or to the log, whose first half it does:
// what the rest would be is zeros already.
type halfDisk struct {
	fileDisk
	next string // what is to fail
}

func (d *halfDisk) WriteAt(p []byte, off int64) (int, error) {
	what := "frame"
	if off < dataStart {
		what = "superblock"
	} else if len(p) == logBlockLen && bytes.HasPrefix(p, []byte("LZlg")) {
		what = "log"
	}
	if what != d.next {
		return d.fileDisk.WriteAt(p, off)
	}
	d.next = ""
	n, _ := d.fileDisk.WriteAt(p[:len(p)/2], off)
	return n, unix.EIO
}

// A generation whose write failed may be on disk, and a reader may have opened it: it
// keeps what it reads, whatever is written later.
func TestReaderOfFailedCommit(t *testing.T) {
	for what, commit := range map[string]func(*Store) error{"superblock": (*Store).checkpointNow, "log": (*Store).Sync} {
		path := filepath.Join(t.TempDir(), "s.lazy")
		f, err := os.Create(path)
		must(t, err)
		must(t, lockWriter(f))
		d := &halfDisk{fileDisk: fileDisk{f}}
		s, err := createDisk(d, f, CreateOptions{FrameSize: MinFrameSize})
		must(t, err)
		defer s.Discard()
		mustWrite(t, s, noise(20*MinFrameSize, 1), 0)
		must(t, s.Sync())
		must(t, s.checkpointNow())
		for seed := range byte(2) {
			must(t, s.Sync())
			mustWrite(t, s, noise(MinFrameSize, 2+seed), 0)
		}
		if d.next = what; commit(s) == nil {
			t.Fatalf("%s: the failed write was no error", what)
		}
		r, err := Open(path, Options{})
		must(t, err)
		defer r.Close()
		want, err := readAll(r)
		must(t, err)
		for i := range byte(20) {
			mustWrite(t, s, noise(3*MinFrameSize, 10+i), int64(i%3)*MinFrameSize)
			must(t, s.Sync())
		}
		if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: generation %d is gone: %v", what, r.Generation(), err)
		}
	}
}

// A superblock that failed while a store was compacted, and tore the only one that had
// the last commit, is replaced by the next Sync, though nothing was written since.
func TestSyncAfterTornSuperblock(t *testing.T) {
	d := &tornDisk{simDisk: &simDisk{}, some: 100}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	must(t, s.Sync())
	want := text(1000, "kept ")
	mustWrite(t, s, want, 0)
	must(t, s.Commit()) // By a superblock that nobody waits for.
	d.full = true
	if _, err := newCompactor(s, context.Background(), CompactOptions{}, compactStep).checkpoint(0); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("checkpoint without room for a superblock: %v", err)
	}
	d.full = false
	must(t, s.Sync())
	r, err := openDisk(diskWith(d.durable), nil, Options{})
	must(t, err)
	if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes are on disk of %d, %v", len(got), len(want), err)
	}
}

// A record whose write failed, but that may be on disk all the same, is there for the
// next writer, too, whatever is written behind it: what that one finds is not changed by
// a power cut.
func TestOpenAfterFailedRecord(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(9*MinFrameSize, 1), 0)
	must(t, s.Close())
	s, err = openDisk(d, nil, Options{Writable: true})
	must(t, err)
	mustWrite(t, s, noise(MinFrameSize, 2), 0)
	s.d = &lateFailure{disk: d}
	if err := s.Sync(); !errors.Is(err, unix.EIO) {
		t.Fatalf("sync without a log: %v", err)
	}
	mustWrite(t, s, noise(MinFrameSize, 3), 0)
	must(t, s.Discard())
	s, err = openDisk(d, nil, Options{Writable: true})
	must(t, err)
	want, err := readAll(s)
	must(t, err)
	for left := range len(d.pending) + 1 { // The others are lost.
		image := bytes.Clone(d.durable)
		for _, op := range d.pending[:left] {
			image = op.apply(image)
		}
		r, err := openDisk(diskWith(image), nil, Options{})
		must(t, err)
		if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("generation %d was opened, %d of %d writes later it is %d, %v", s.Generation(), left, len(d.pending), r.Generation(), err)
		}
	}
}

// A lateFailure does what is written to the log, and says that it failed.
type lateFailure struct{ disk }

func (d *lateFailure) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.disk.WriteAt(p, off)
	if err == nil && len(p) == logBlockLen && bytes.HasPrefix(p, []byte("LZlg")) {
		return 0, unix.EIO
	}
	return n, err
}
