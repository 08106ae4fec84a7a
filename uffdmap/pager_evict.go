package uffdmap

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// An evictor keeps a mapping within its memory limit.
type evictor struct {
	mu     sync.Mutex // guards hand and failed; taken before a frame's lock
	hand   int64      // offset in the mapping
	failed bool       // an attempt since the last Sync; said once

	queueMu sync.Mutex // guards queue; taken after all others
	queue   evictQueue
}

// broughtIn says that the frames from first on and below end are in memory now.
func (m *served) broughtIn(first, end int64) {
	if m.Limit == 0 {
		return
	}
	e := &m.evictor
	e.queueMu.Lock()
	defer e.queueMu.Unlock()
	for n := first; n < end; n++ {
		e.queue.add(n)
	}
}

// findResident makes the frames known that a pager which died had brought in, in the
// order in which they lie.
func (m *served) findResident() {
	if m.Limit == 0 || !m.enter() {
		return
	}
	defer m.leave()
	for n := int64(0); n < m.frames(); n++ {
		data, err := unix.Seek(m.memory, n*m.FrameSize, unix.SEEK_DATA)
		if err != nil {
			return // Nothing up to the end.
		}
		n = data / m.FrameSize
		m.broughtIn(n, n+1)
	}
}

// next says which frame to evict next. Where it is known of none, it goes round the
// mapping: a pager that died may have brought in frames. The caller holds mu.
func (e *evictor) next(memory int, frameSize int64) (n int64, proven, ok bool) {
	e.queueMu.Lock()
	defer e.queueMu.Unlock()
	if e.queue.len() > 0 {
		n, proven = e.queue.next()
		return n, proven, true
	}
	data, err := unix.Seek(memory, e.hand, unix.SEEK_DATA)
	if err != nil { // Nothing up to the end: begin again.
		e.hand = 0
		return 0, false, false
	}
	n = data / frameSize
	e.hand = (n + 1) * frameSize
	return n, false, true
}

// done says what became of a frame that next gave: whether it has left memory.
func (e *evictor) done(n int64, proven, gone bool) {
	e.queueMu.Lock()
	defer e.queueMu.Unlock()
	if gone {
		e.queue.evicted(n)
	} else {
		e.queue.keep(n, proven)
	}
}

// makeRoom evicts frames until the mapping is within its limit. Where that can't
// be done, because the spill file has no room left, the limit is exceeded.
func (m *served) makeRoom(buf []byte) {
	if m.Limit == 0 || m.resident() <= m.Limit {
		return
	}
	m.pool.attention.listen(m)
	e := &m.evictor
	e.mu.Lock()
	defer e.mu.Unlock()
	for rest := 2 * m.frames(); rest > 0 && m.resident() > m.Limit; rest-- {
		n, proven, ok := e.next(m.memory, m.FrameSize)
		if !ok {
			continue
		}
		// Who works on a frame may wait for a slow store; nobody else need.
		if !m.locks.tryLock(n) {
			e.done(n, proven, false)
			continue
		}
		err := m.evict(buf, n)
		e.done(n, true, err == nil) // Before somebody brings the frame in again.
		m.locks.unlock(n)
		if err == nil || err == errBehind {
			continue
		}
		if !e.failed {
			e.failed = true
			log.printf("memory limit of %s exceeded: %v", m.Path, err)
		}
		return
	}
}

// makeRoomAgain evicts, after a Sync, what could not be evicted before.
func (m *served) makeRoomAgain() {
	if m.Limit == 0 {
		return
	}
	e := &m.evictor
	e.mu.Lock()
	e.failed = false
	e.mu.Unlock()
	buf, err := newScratch()
	if err != nil {
		return // The next touch of an absent page does it.
	}
	defer freeScratch(buf)
	m.makeRoom(buf)
}

// resident is the memory that the mapping's pages take, in bytes.
func (m *served) resident() int64 { return residentBytes(m.memory) }

// residentBytes is the memory that the pages of a memfd take.
func residentBytes(memory int) int64 {
	var st unix.Stat_t
	if err := unix.Fstat(memory, &st); err != nil {
		return 0
	}
	return st.Blocks * 512
}

// evict takes frame n out of memory. A writer waits for the frame's protection
// to be lifted, and finds its page absent then. A frame that some device pins
// stays as it is. The caller holds the frame's lock.
func (m *served) evict(buf []byte, n int64) error {
	if m.absent(n) {
		return nil // The program has given it back.
	}
	if m.Tracked {
		if err := m.setProtected(n, true); err != nil {
			return err
		}
		if m.table.isDirty(n) {
			if err := m.spillFrame(buf, n); err != nil {
				return err
			}
		}
	}
	off, length := m.extent(n)
	const mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if err := unix.Fallocate(m.memory, mode, off, length); err != nil {
		return fmt.Errorf("evict frame %d: %w", n, err)
	}
	if !m.absent(n) {
		return m.putBack(buf, n)
	}
	m.table.head.evicted.Add(1)
	m.uffd.Wake(m.addr(off), uintptr(length))
	return nil
}

// putBack restores what a punch left behind as zeros: pages of a huge page that
// somebody has pinned. lazyfs makes no huge pages; another program may.
func (m *served) putBack(buf []byte, n int64) error {
	if err := m.read(buf, n); err != nil {
		return err
	}
	off, length := m.extent(n)
	for at := int64(0); at < length; at += pageSize {
		if !m.present(off + at) {
			continue
		}
		if _, err := unix.Pwrite(m.memory, buf[at:at+pageSize], off+at); err != nil {
			return fmt.Errorf("put frame %d back: %w", n, err)
		}
	}
	return fmt.Errorf("evict frame %d: its memory is pinned: %w", n, unix.EBUSY)
}

// spillFrame writes frame n, which is dirty and protected, to the spill file.
func (m *served) spillFrame(buf []byte, n int64) error {
	p, err := m.captureHanded(buf, n)
	if err != nil {
		return err
	}
	if err := m.writeSpilled(p, n); err != nil {
		return err
	}
	m.table.spilled.set(n)
	return nil
}

func (m *served) writeSpilled(p []byte, n int64) error {
	off, _ := m.extent(n)
	if err := pwriteFull(m.spill, p, off); err != nil {
		return fmt.Errorf("write frame %d to the spill file: %w", n, err)
	}
	return nil
}

// renewSpilled sees to it that the spill file holds nothing of frame n that is older
// than p, which is about to be committed: it would come back if the program punched
// pages out. The caller holds the frame's lock.
func (m *served) renewSpilled(n int64, p []byte) error {
	switch {
	case !m.table.spilled.get(n) || m.absent(n):
		return nil
	case m.complete(m.extent(n)):
		m.forgetSpilled(n)
		return nil
	}
	return m.writeSpilled(p, n)
}

// readSpilled reads frame n from the spill file.
func (m *served) readSpilled(buf []byte, n int64) error {
	off, length := m.extent(n)
	if err := preadFull(m.spill, buf[:length], off); err != nil {
		return fmt.Errorf("read frame %d from the spill file: %w", n, err)
	}
	return nil
}

// forgetSpilled gives up what the spill file holds of frame n. The caller holds
// the frame's lock.
func (m *served) forgetSpilled(n int64) {
	if !m.table.spilled.get(n) {
		return
	}
	m.table.spilled.clear(n)
	off, length := m.extent(n)
	unix.Fallocate(m.spill, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
}
