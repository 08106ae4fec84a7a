package uffdmap

import (
	"cmp"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// A snapshot is what a mapping held at one instant. Frames that were written
// since are saved in a file as they were; the others are still what they were
// then, in memory, in the spill file or in the store.
type snapshot struct {
	image  int    // file of the saved frames, each at its place
	window int    // memfd that carries what is read to the program
	saved  bitmap // in bits; set with the frame's lock held
	bits   memory // costs nothing where no frame is saved

	mu     sync.Mutex // guards what follows; taken after all other locks
	buf    []byte     // one frame, outside the heap
	failed error      // a frame could not be saved
}

// The descriptors of a snapshot, in the order in which they travel.
const (
	fdImage = iota
	fdWindow
	snapshotFds
)

// takeSnapshot makes this instant one that can be read, as id. It owns fds from
// then on, also on error.
//
// All that anybody may write without a fault is protected while no protection is
// lifted. So a write is either finished before all of it is protected, or waits
// until it is, and with it whatever its thread does next.
func (m *served) takeSnapshot(id int32, fds []int) error {
	if len(fds) != snapshotFds {
		closeAll(fds)
		return fmt.Errorf("snapshot came with %d descriptors", len(fds))
	}
	s, err := newSnapshot(fds, m.frames())
	if err != nil {
		closeAll(fds)
		return err
	}
	m.lifting.Lock()
	defer m.lifting.Unlock()
	if err := m.protectWritten(); err != nil {
		s.close()
		return err
	}
	if m.snapshots == nil {
		m.snapshots = map[int32]*snapshot{}
	}
	m.snapshots[id] = s
	return nil
}

// newSnapshot makes a snapshot of so many frames, in which none is saved.
func newSnapshot(fds []int, frames int64) (*snapshot, error) {
	bits, err := mapMemory(max(bitmapRoom(frames), pageSize), unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	buf, err := newScratch()
	if err != nil {
		bits.unmap()
		return nil, err
	}
	return &snapshot{
		image: fds[fdImage], window: fds[fdWindow],
		saved: bitmapIn(bits.b, frames), bits: bits, buf: buf,
	}, nil
}

// protectWritten protects all frames that may be written without a fault. The
// caller holds lifting, so that it needs no frame's lock.
func (m *served) protectWritten() error {
	var run Range
	for n := range m.table.union(m.table.written, m.table.dirty, 0) {
		off, length := m.extent(n)
		if run.End() != off {
			if err := m.protectRange(run, true); err != nil {
				return err
			}
			run = Range{off, 0}
		}
		run.Len += length
	}
	return m.protectRange(run, true)
}

// save keeps frame n as it is for the snapshots that have not, because it is
// about to be written. The caller holds lifting and the frame's lock, and nobody
// can write the frame.
func (m *served) save(n int64) {
	for _, s := range m.snapshots {
		if !s.saved.get(n) {
			m.saveFor(s, n)
		}
	}
}

// saveFor is save for one snapshot. A frame that can't be saved ends it: the
// writer goes on all the same.
func (m *served) saveFor(s *snapshot, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return
	}
	p, err := m.captureHanded(s.buf, n)
	if err == nil {
		off, _ := m.extent(n)
		err = pwriteFull(s.image, p, off)
	}
	if err != nil {
		s.failed = fmt.Errorf("save frame %d for a snapshot: %w", n, err)
		return
	}
	s.saved.set(n)
}

// readSnapshot puts what snapshot id holds in r at the beginning of its window.
func (m *served) readSnapshot(id int32, r Range) error {
	m.lifting.RLock()
	s := m.snapshots[id]
	m.lifting.RUnlock()
	if s == nil {
		return ErrSnapshotLost
	}
	if r.Off < 0 || r.Len <= 0 || r.Len > snapshotWindow || r.Off > m.Size-r.Len {
		return fmt.Errorf("read %#x bytes at %#x of a snapshot of %#x: %w", r.Len, r.Off, m.Size, unix.EINVAL)
	}
	var frames []int64
	for n := r.Off / m.FrameSize; n <= (r.End()-1)/m.FrameSize; n++ {
		frames = append(frames, n)
	}
	err := inParallel(frames, func(buf []byte, n int64) error {
		p, err := m.recall(s, buf, n)
		if err != nil {
			return err
		}
		off, _ := m.extent(n)
		from, to := max(off, r.Off), min(off+int64(len(p)), r.End())
		return pwriteFull(s.window, p[from-off:to-off], from-r.Off)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.failed, err)
}

// recall copies frame n of a snapshot to buf.
func (m *served) recall(s *snapshot, buf []byte, n int64) ([]byte, error) {
	m.locks.lock(n)
	defer m.locks.unlock(n)
	if !s.saved.get(n) {
		m.awaitStore(n)
		return m.capture(buf, n)
	}
	off, length := m.extent(n)
	return buf[:length], preadFull(s.image, buf[:length], off)
}

// dropSnapshot forgets snapshot id, if there is one.
func (m *served) dropSnapshot(id int32) {
	m.lifting.Lock()
	defer m.lifting.Unlock()
	if s := m.snapshots[id]; s != nil {
		delete(m.snapshots, id)
		s.close()
	}
}

func (s *snapshot) close() {
	closeAll([]int{s.image, s.window})
	freeScratch(s.buf)
	s.bits.unmap()
}
