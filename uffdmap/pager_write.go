package uffdmap

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lift lets the writer go on that waits for the protected page. When somebody is at
// its frame, who may wait for a slow store, the write is repeated after that.
func (m *served) lift(w *worker, page int64) {
	n := page / m.FrameSize
	if !m.locks.lockOrAsk(n) {
		return
	}
	defer m.locks.unlock(n)
	if !m.lifting.TryRLock() {
		w.listen()
		m.lifting.RLock()
	}
	defer m.lifting.RUnlock()
	if len(m.snapshots) > 0 {
		w.listen()
	} else {
		w.look(m)
	}
	m.table.head.writes.Add(1)
	m.admitWrite(n)
	m.setProtected(n, false)
}

// admitWrite notes that frame n, which nobody can write yet, is about to be
// written. The caller holds lifting and the frame's lock.
func (m *served) admitWrite(n int64) {
	m.save(n)
	m.table.dirty.set(n)
	m.table.written.set(n)
	m.expect.Do(func() {
		if m.late != nil {
			go m.expectWrites()
		}
	})
}

// expectWrites makes the store ready for the next write-back.
func (m *served) expectWrites() {
	if m.enter() {
		defer m.leave()
		if s, err := m.late.wait(); err == nil {
			s.ExpectWrites() // A write-back meets its error again.
		}
	}
}

// setProtected protects the present pages of frame n, or lifts that.
func (m *served) setProtected(n int64, on bool) error {
	off, length := m.extent(n)
	return m.protectRange(Range{off, length}, on)
}

// protectRange protects the present pages of whole frames, or lifts that.
func (m *served) protectRange(r Range, on bool) error {
	for r.Len > 0 {
		err := m.uffd.WriteProtect(m.addr(r.Off), uintptr(r.Len), on, false)
		switch {
		case err == unix.EAGAIN:
			runtime.Gosched()
		case err == unix.ENOENT || err == unix.ESRCH || errors.Is(err, os.ErrClosed):
			return nil // The program has unmapped it, or is gone.
		case err != nil:
			return fmt.Errorf("protect %#x bytes at %#x: %w", r.Len, r.Off, err)
		default:
			return nil
		}
	}
	return nil
}

// protect makes every write from now on visible as written. Pages that nobody
// has written are protected already, since they were installed so.
func (m *served) protect() error {
	if !m.Tracked {
		return nil
	}
	for n := range m.table.union(m.table.written, m.table.dirty, 0) {
		if err := m.protectFrame(n); err != nil {
			return err
		}
	}
	return nil
}

func (m *served) protectFrame(n int64) error {
	m.locks.lock(n)
	defer m.locks.unlock(n)
	m.table.written.clear(n)
	return m.setProtected(n, true)
}

// sync writes all dirty frames back and commits them as one generation. When it
// fails they are all dirty as before, and the store is as at its last commit.
func (m *served) sync() error {
	if err := m.sound(); err != nil || m.late == nil {
		return err
	}
	m.syncing.Lock()
	defer m.syncing.Unlock()
	var frames []int64
	for n := range m.table.union(m.table.dirty, nil, 0) {
		frames = append(frames, n)
	}
	groups := slices.Collect(slices.Chunk(frames, int(max(backBytes/m.FrameSize, 1))))
	err := inParallel(groups, m.writeBack)
	if err == nil {
		err = m.late.store.Sync()
	}
	m.unclean = err != nil
	if err != nil {
		m.table.restoreDirty()
		return err
	}
	for n := range m.table.union(m.table.syncing, nil, 0) {
		m.committed(n)
	}
	m.makeRoomAgain()
	return nil
}

// writeBack gives frames to the store. Whoever writes to them from then on faults
// and makes them dirty again.
func (m *served) writeBack(buf []byte, frames []int64) error {
	w := m.late.store.NewFrameWriter()
	defer w.Close()
	m.handing.RLock()
	defer m.handing.RUnlock()
	for _, n := range frames {
		p, err := m.takeFrame(buf, n)
		if err != nil {
			return err
		}
		off, _ := m.extent(n)
		if err := w.Add(n, p[:min(m.FrameSize, m.Size-off)]); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	m.table.head.stored.Add(uint64(len(frames)))
	return nil
}

// takeFrame protects frame n and copies it.
func (m *served) takeFrame(buf []byte, n int64) ([]byte, error) {
	m.locks.lock(n)
	defer m.locks.unlock(n)
	m.table.syncing.set(n)
	m.table.dirty.clear(n)
	if err := m.setProtected(n, true); err != nil {
		return nil, err
	}
	p, err := m.capture(buf, n)
	if err != nil {
		return nil, err
	}
	return p, m.renewSpilled(n, p)
}

// awaitStore returns when the store has what a write-back has copied of frame n: the
// program may have punched pages out since, which must not come back older than that.
// The caller holds the frame's lock and no other.
func (m *served) awaitStore(n int64) {
	if !m.isCopied(n) {
		return
	}
	m.handing.Lock() // When it can be had, nothing is on its way.
	defer m.handing.Unlock()
}

// isBehind says whether the store may lack what a write-back has copied of frame n. The
// caller holds the frame's lock.
func (m *served) isBehind(n int64) bool {
	if !m.isCopied(n) {
		return false
	}
	handed := m.handing.TryLock()
	if handed {
		m.handing.Unlock()
	}
	return !handed
}

// isCopied says whether a write-back has copied frame n, of which the newest bytes
// outside the memory will be the store's.
func (m *served) isCopied(n int64) bool {
	return m.table.syncing.get(n) && !m.table.spilled.get(n)
}

// committed notes that frame n is in the store as takeFrame found it.
func (m *served) committed(n int64) {
	if m.spill < 0 {
		m.table.syncing.clear(n)
		return
	}
	m.locks.lock(n)
	defer m.locks.unlock(n)
	m.table.syncing.clear(n)
	if !m.table.dirty.get(n) {
		m.forgetSpilled(n)
	}
}

// capture copies frame n to buf: its present pages from the memory, the others
// from where they are. The caller holds the frame's lock, so that nobody brings in a
// page, and the frame is protected. The program may punch one out at any time, which
// reads as zeros then: what was read counts when the page is still there.
func (m *served) capture(buf []byte, n int64) ([]byte, error) {
	off, length := m.extent(n)
	buf = buf[:length]
	if err := m.readMemory(buf, off); err != nil || m.complete(off, length) {
		return buf, err
	}
	if err := m.read(buf[:cap(buf)], n); err != nil {
		return nil, err
	}
	var page [pageSize]byte
	for at := int64(0); at < length; at += pageSize {
		if err := m.readMemory(page[:], off+at); err != nil {
			return nil, err
		}
		if m.present(off + at) {
			copy(buf[at:], page[:])
		}
	}
	return buf, nil
}

// errBehind says that pages of a frame can't be had now: they are to come from the store,
// which lacks what a write-back has copied of them.
var errBehind = errors.New("pages of it were punched out beside a Sync")

// captureHanded is capture, or errBehind, for who can't wait for the store.
func (m *served) captureHanded(buf []byte, n int64) ([]byte, error) {
	behind := m.isBehind(n)
	p, err := m.capture(buf, n)
	if err == nil && behind && !m.complete(m.extent(n)) {
		err = errBehind
	}
	return p, err
}

// readMemory copies pages from off on to p, zeros for those that are absent.
func (m *served) readMemory(p []byte, off int64) error {
	if err := preadFull(m.memory, p, off); err != nil {
		return fmt.Errorf("read memory at %#x: %w", off, err)
	}
	return nil
}

func preadFull(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pread(fd, p, off)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return unix.EIO
		}
		p, off = p[max(n, 0):], off+int64(max(n, 0))
	}
	return nil
}

func pwriteFull(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		if err != nil && err != unix.EINTR {
			return err
		}
		p, off = p[max(n, 0):], off+int64(max(n, 0))
	}
	return nil
}

// address is the address of b, which lies outside the heap.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
