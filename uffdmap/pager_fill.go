package uffdmap

import (
	"errors"
	"fmt"
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
	next, end := m.ahead.touched(n)
	filled := false
	if next == n && end > n+1 && !t.write {
		done, err := m.fillRun(w.scratch, n, min(end, m.frames())-n, true)
		next, filled = next+done, err == nil
	}
	if !filled {
		m.fillFrame(w.scratch, n, t.page, t.write)
		if next == n {
			next++
		}
	}
	m.fillAhead(w, next, end)
	m.makeRoom(w.scratch)
}

// fillAhead makes frames [next, end) resident, which nobody has touched yet.
func (m *served) fillAhead(w *worker, next, end int64) {
	begin := time.Now()
	for next < min(end, m.frames()) {
		// Who waits comes first, and a slow store is not read for long on mere
		// suspicion.
		if w.pool.queued.Load() > 0 || time.Since(begin) > maxAheadTime {
			m.ahead.stopped(next, end)
			return
		}
		done, err := m.fillRun(w.scratch, next, min(end, m.frames())-next, false)
		if err != nil {
			return
		}
		next += done
	}
}

// fillFrame makes frame n resident, because page was touched, or poisons it.
func (m *served) fillFrame(buf []byte, n, page int64, write bool) {
	m.locks.lock(n)
	defer m.locks.unlock(n)
	off, length := m.extent(n)
	if m.present(page) {
		// Another worker was first. Its copy may have been cut short, or this
		// fault came between the copy and the wake.
		m.uffd.Wake(m.addr(off), uintptr(length))
		return
	}
	if err := m.load(buf, n, write); err != nil {
		m.poison(n, err)
	}
}

// fillRun makes frames from n on resident, count at most and as many as maxRun
// holds, in one piece. It says how many of them need no more care: another worker
// that is at frame n will care for as many, unless this one is to wait for it.
func (m *served) fillRun(buf []byte, n, count int64, wait bool) (int64, error) {
	count = min(count, max(1, maxRun/m.FrameSize))
	if wait {
		m.locks.lock(n)
	} else if !m.locks.tryLock(n) {
		return count, nil
	}
	locked := int64(1)
	defer func() {
		for i := range locked {
			m.locks.unlock(n + i)
		}
	}()
	off, length := m.extent(n)
	if m.complete(off, length) {
		m.uffd.Wake(m.addr(off), uintptr(length))
		return 1, nil
	}
	if err := m.read(buf, n); err != nil {
		return 0, err
	}
	done := int64(1)
	for ; done < min(count, m.frames()-n); done++ {
		// Waiting for a second lock could be for ever.
		if !m.locks.tryLock(n + done) {
			break
		}
		locked++
		at, more := m.extent(n + done)
		if m.complete(at, more) || m.read(buf[length:], n+done) != nil {
			break
		}
		length += more
	}
	m.table.head.ahead.Add(uint64(done - 1))
	return done, m.install(buf[:length], off, m.protection())
}

// load reads frame n and installs those of its pages that are absent. The caller
// holds the frame's lock.
func (m *served) load(buf []byte, n int64, write bool) error {
	if err := m.read(buf, n); err != nil {
		return err
	}
	off, length := m.extent(n)
	if write {
		// The writer goes on at once, without a second fault.
		m.lifting.RLock()
		defer m.lifting.RUnlock()
		m.save(n)
		m.table.dirty.set(n)
		m.table.written.set(n)
		return m.install(buf[:length], off, 0)
	}
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
	if !errors.Is(cause, store.ErrDamaged) {
		fmt.Fprintf(os.Stderr, "lazyfs pager: %v\n", cause)
	}
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
	m.uffd.Wake(m.addr(off), uintptr(length))
}

// addr is the address in the program of offset off.
func (m *served) addr(off int64) uintptr { return uintptr(m.Base) + uintptr(off) }

// prefetch makes all frames that ranges touch resident, on all cores.
func (m *served) prefetch(ranges []Range) error {
	var frames []int64
	for _, r := range ranges {
		if r.Off < 0 || r.Len < 0 || r.Off > m.Size || r.Len > m.Size-r.Off {
			return fmt.Errorf("prefetch %#x bytes at %#x: mapping ends at %#x: %w", r.Len, r.Off, m.Size, unix.EINVAL)
		}
		if r.Len == 0 {
			continue
		}
		for n := r.Off / m.FrameSize; n <= (r.Off+r.Len-1)/m.FrameSize; n++ {
			frames = append(frames, n)
		}
	}
	return m.inParallel(frames, func(buf []byte, n int64) error {
		_, err := m.fillRun(buf, n, 1, true)
		m.makeRoom(buf)
		return err
	})
}
