package uffdmap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Snapshot is what a Mapping held at one instant, to be read while the program
// goes on writing. Its methods may be called from several goroutines at once.
//
// It costs nothing until the program writes: the first write to each frame from
// then on waits until the frame is saved in a file without a name, in the store's
// folder or, if that can't be written, in that for temporary files. When there is
// no room for it, or pages of the frame are punched out beside a Sync, the writer
// goes on, and reads of the snapshot fail.
type Snapshot struct {
	m  *Mapping
	id int32

	mu     sync.Mutex // guards what follows; one reader at a time
	fds    []int      // in the order in which they travel
	closed bool
}

// snapshotWindow bounds what is asked of a pager at once, in bytes.
const snapshotWindow = 2 << 20

// Snapshot takes a snapshot of the mapping: if the store of a word is in it, so is
// every store that was finished before that one began. Who writes to a protected
// frame waits while it is taken, longer the more was written since the last Sync.
// Close it when it is not needed any more. It ends with the mapping, and with the
// pager if that is killed: reads give os.ErrClosed or ErrSnapshotLost then, never
// other bytes.
func (m *Mapping) Snapshot() (*Snapshot, error) {
	s := &Snapshot{m: m, id: m.client.newID()}
	if err := s.take(); err != nil {
		closeAll(s.fds)
		return nil, err
	}
	return s, nil
}

func (s *Snapshot) take() error {
	if s.m.editable && !s.m.Tracked {
		return fmt.Errorf("snapshot %s: NoTracking leaves writes unknown: %w", s.m.Path, unix.EINVAL)
	}
	image, err := newSpill(s.m.folder, s.m.Len)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", s.m.Path, err)
	}
	s.fds = append(s.fds, image)
	window, err := unix.MemfdCreate("lazyfs-window", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("snapshot %s: make a window: %w", s.m.Path, err)
	}
	s.fds = append(s.fds, window)
	return s.m.request("snapshot", message{Verb: verbSnapshot, Snap: s.id, fds: s.fds})
}

// Size is the number of bytes of the snapshot.
func (s *Snapshot) Size() int64 { return s.m.Size() }

// ReadAt implements io.ReaderAt.
func (s *Snapshot) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read snapshot of %s at %d: %w", s.m.Path, off, unix.EINVAL)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	done := 0
	for done < len(p) && off+int64(done) < s.Size() {
		at := off + int64(done)
		// Up to a multiple of the window, so that no frame is read twice.
		n := min(int64(len(p)-done), s.Size()-at, snapshotWindow-at%snapshotWindow)
		if err := s.read(p[done:done+int(n)], at); err != nil {
			return done, err
		}
		done += int(n)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// read reads what fits into the window. The caller holds mu.
func (s *Snapshot) read(p []byte, off int64) error {
	if s.closed {
		return fmt.Errorf("read snapshot of %s: %w", s.m.Path, os.ErrClosed)
	}
	r := Range{off, int64(len(p))}
	if err := s.m.request("read snapshot of", message{Verb: verbRecall, Snap: s.id, Ranges: []Range{r}}); err != nil {
		return err
	}
	if err := preadFull(s.fds[fdWindow], p, 0); err != nil {
		return fmt.Errorf("read snapshot of %s: %w", s.m.Path, err)
	}
	return nil
}

// Close gives back what the snapshot takes.
func (s *Snapshot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("close snapshot of %s: %w", s.m.Path, os.ErrClosed)
	}
	s.closed = true
	err := s.m.request("close snapshot of", message{Verb: verbForget, Snap: s.id})
	closeAll(s.fds)
	if errors.Is(err, os.ErrClosed) {
		return nil // It ended with the mapping.
	}
	return err
}
