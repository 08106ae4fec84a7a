package uffdmap

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// fill answers a touch of an absent page, and goes on with the frames behind it
// when the program reads them one after the other.
func (m *served) fill(w *worker, t touch) {
	n := t.page / m.FrameSize
	m.table.head.faults.Add(1)
	end, on := m.ahead.touched(n)
	if on != nil {
		w.only = nil // There is more to do than to look for the next one.
	}
	next := n
	if end > n+1 && !t.write {
		next, _ = m.fillRun(w.scratch, n, end)
	}
	if next == n {
		m.fillFrame(w, n, t.page, t.write)
		next++
	}
	m.table.head.ahead.Add(uint64(next - n - 1))
	m.fillTaken(w, next, end)
	if on != nil {
		m.fillAhead(w, on)
	}
	m.makeRoom(w.scratch)
}

// fillAhead fills what lies before the reader of s, beside other workers. Who
// waits comes first, and a slow store is not read for long on mere suspicion.
func (m *served) fillAhead(w *worker, s *stream) {
	if !m.ahead.join(s) {
		return
	}
	defer m.ahead.leave(s)
	defer w.pool.cores.stay()()
	for begin := time.Now(); w.pool.queued.Load() == 0 && time.Since(begin) < maxAheadTime; {
		next, end, more := m.ahead.take(s)
		if next == end {
			return
		}
		if more {
			w.pool.askAhead(m, s)
		}
		m.fillTaken(w, next, end)
	}
}

// fillTaken makes frames [next, end) resident, which this worker has taken, but
// for those that somebody else is at or that can't be read.
func (m *served) fillTaken(w *worker, next, end int64) {
	for next < min(end, m.frames()) {
		done, _ := m.fillRun(w.scratch, next, end)
		m.table.head.ahead.Add(uint64(done - next))
		next = max(done, next+1)
		m.makeRoom(w.scratch)
	}
}

// fillFrame makes frame n resident, because page was touched, or poisons it. When
// somebody else is at it, the touch is repeated after that.
func (m *served) fillFrame(w *worker, n, page int64, write bool) {
	if !m.locks.lockOrAsk(n) {
		return
	}
	defer m.locks.unlock(n)
	if m.present(page) {
		// Another worker was first. Its copy may have been cut short, or this
		// fault came between the copy and the wake.
		m.wake(n)
		return
	}
	if err := m.load(w, n, write); err != nil {
		m.poison(n, err)
		return
	}
	m.broughtIn(n, n+1)
}

// fillRun makes frames from n on and below end resident, in one piece, as many as
// maxRun holds and as are absent and free. It returns the frame behind the last
// one, and why that one could not be read.
func (m *served) fillRun(buf []byte, n, end int64) (next int64, err error) {
	end = min(end, n+min(max(1, maxRun/m.FrameSize), maxReadRun), m.frames())
	// Waiting for a second lock could be for ever.
	locked := m.locks.tryLockRun(n, end)
	defer m.locks.unlockRun(n, locked)
	if end = m.absentRun(n, locked); end == n || m.isBehind(n) {
		return n, nil
	}
	done, err := m.readRun(buf[:(end-n)*m.FrameSize], n)
	if next = n + done; next == n {
		return n, err
	}
	off, _ := m.extent(n)
	if err := m.install(buf[:min(done*m.FrameSize, m.Len-off)], off, m.protection()); err != nil {
		return n, err
	}
	m.broughtIn(n, next)
	return next, err
}

// absentRun returns where the frames end, from n on and below end, of which no page
// is in memory. Frame n is among them if a page of it is not.
func (m *served) absentRun(n, end int64) int64 {
	if n >= end {
		return n
	}
	off, length := m.extent(n)
	data, err := unix.Seek(m.memory, off, unix.SEEK_DATA)
	switch {
	case err != nil: // There is nothing up to the end.
		return end
	case data >= off+length:
		return min(end, data/m.FrameSize)
	case m.complete(off, length):
		return n
	}
	return n + 1
}

// readRun fills buf with frames from n on from where their newest bytes lie outside
// the memory. It returns how many it read, not all where that takes long, and why
// the next one could not be read.
func (m *served) readRun(buf []byte, n int64) (done int64, err error) {
	if m.table.spilled.get(n) {
		if err := m.readSpilled(buf, n); err != nil {
			return 0, err
		}
		return 1, nil
	}
	count := int64(1)
	for count*m.FrameSize < int64(len(buf)) && !m.table.spilled.get(n+count) && !m.isCopied(n+count) {
		count++
	}
	got, zeros, err := readFrames(m.source, n, buf[:count*m.FrameSize], time.Now().Add(maxAheadTime))
	m.table.head.loaded.Add(uint64(got))
	m.table.head.zeros.Add(uint64(bits.OnesCount64(zeros)))
	for ; zeros != 0; zeros &= zeros - 1 {
		at := int64(bits.TrailingZeros64(zeros)) * m.FrameSize
		clear(buf[at : at+m.FrameSize])
	}
	return int64(got), err
}

// load reads frame n and installs those of its pages that are absent. The caller
// holds the frame's lock.
func (m *served) load(w *worker, n int64, write bool) error {
	m.awaitStore(n)
	buf := w.scratch
	if err := m.read(buf, n); err != nil {
		return err
	}
	off, length := m.extent(n)
	if write {
		// The writer goes on at once, without a second fault.
		m.lifting.RLock()
		defer m.lifting.RUnlock()
		m.admitWrite(n)
		w.look(m)
		return m.install(buf[:length], off, 0)
	}
	w.look(m)
	return m.install(buf[:length], off, m.protection())
}

// protection is how pages are installed that nobody is about to write.
func (m *served) protection() uffd.CopyFlags {
	if m.Tracked {
		return uffd.CopyWP
	}
	return 0
}

// read reads frame n into buf from where its newest bytes lie outside the memory.
func (m *served) read(buf []byte, n int64) error {
	if m.table.spilled.get(n) {
		return m.readSpilled(buf, n)
	}
	buf = buf[:m.FrameSize]
	zero, err := m.source.ReadFrame(n, buf)
	if err != nil {
		return err
	}
	m.table.head.loaded.Add(1)
	if zero {
		clear(buf)
		m.table.head.zeros.Add(1)
	}
	return nil
}

// install copies src to those pages from off on that are absent, and wakes those
// who wait for them.
func (m *served) install(src []byte, off int64, flags uffd.CopyFlags) error {
	for tries := 0; ; tries++ {
		err := m.uffd.Fill(m.addr(off), address(src), uintptr(len(src)), flags)
		switch {
		case err == unix.ENOENT && len(src) > pageSize:
			// The program has given some of the pages other properties, and one
			// copy may not reach from those into the next.
			return m.installPages(src, off, flags)
		case err == unix.ENOENT || err == unix.ESRCH || errors.Is(err, os.ErrClosed):
			return nil // The program has unmapped it, or is gone.
		case err == unix.ENOMEM && tries < 1000:
			// The program's memory group is full. An ordinary touch would wait
			// for room too.
			m.pool.attention.listen(m)
			time.Sleep(5 * time.Millisecond)
		case err != nil:
			return fmt.Errorf("install pages at %#x: %w", off, err)
		default:
			return nil
		}
	}
}

// installPages is install page by page.
func (m *served) installPages(src []byte, off int64, flags uffd.CopyFlags) error {
	for at := 0; at < len(src); at += pageSize {
		if err := m.install(src[at:at+pageSize], off+int64(at), flags); err != nil {
			return err
		}
	}
	return nil
}

// poison makes the absent pages of frame n a SIGBUS for who touches them. The
// caller holds the frame's lock.
func (m *served) poison(n int64, cause error) {
	m.table.head.poisoned.Add(1)
	off, length := m.extent(n)
	for page := off; page < off+length; page += pageSize {
		if m.present(page) {
			continue
		}
		if m.Tracked {
			// A marker of protection would stop UFFDIO_POISON with EEXIST.
			m.uffd.WriteProtect(m.addr(page), pageSize, false, true)
		}
		m.uffd.Poison(m.addr(page), pageSize)
	}
	m.wake(n)
	if !errors.Is(cause, store.ErrDamaged) {
		log.printf("%v", cause)
	}
}

// addr is the address in the program of offset off.
func (m *served) addr(off int64) uintptr { return uintptr(m.Base) + uintptr(off) }
