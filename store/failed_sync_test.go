package store

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// A lossyDisk fails a Datasync with err, if that is set.
type lossyDisk struct {
	disk
	err error
}

func (d *lossyDisk) Datasync() error {
	if d.err != nil {
		return d.err
	}
	return d.disk.Datasync()
}

// A Datasync that fails for want of room has lost what was written, as any other: no
// commit goes on with the log then.
func TestCommitAfterLossOnFullDisk(t *testing.T) {
	d := &lossyDisk{disk: &simDisk{}}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(9*MinFrameSize, 1), 0)
	must(t, s.Sync())
	mustWrite(t, s, noise(9*MinFrameSize, 2), 0)
	s.short = true // As a write leaves it that had no room.
	d.err = unix.ENOSPC
	if err := s.Commit(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("commit: %v, want %v", err, d.err)
	}
	d.err = nil
	if err := s.Sync(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("sync after the disk lost what was written: %v, want an error", err)
	}
}
