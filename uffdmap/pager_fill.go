package uffdmap

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// zeros is a frame of zeros to copy from, for frames that the store says are
// zeros: UFFDIO_ZEROPAGE could not protect what it installs.
var zeros = sync.OnceValue(func() []byte {
	b, err := newScratch(maxFrameSize)
	if err != nil {
		b = make([]byte, maxFrameSize)
	}
	return b
})

// fill answers a touch of an absent page, and goes on with the frames behind it
// when the program reads them one after the other.
func (m *served) fill(w *worker, t touch) {
	n := t.page / m.FrameSize
	m.table.head.faults.Add(1)
	m.fillFrame(w.scratch, n, t.page, t.write)
	count := m.ahead.touched(n)
	begin := time.Now()
	for i := int64(1); i < count && n+i < m.frames(); i++ {
		// Who waits comes first, and a slow store is not read for long on mere
		// suspicion.
		if w.pool.queued.Load() > 0 || time.Since(begin) > maxAheadTime {
			m.ahead.stopped(n + i)
			break
		}
		if m.fillAhead(w.scratch, n+i) != nil {
			break
		}
	}
	m.makeRoom(w.scratch)
}

// fillFrame makes frame n resident, because page was touched, or poisons it.
func (m *served) fillFrame(buf []byte, n, page int64, write bool) {
	defer m.lock(n).Unlock()
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

// fillAhead makes frame n resident before it is touched.
func (m *served) fillAhead(buf []byte, n int64) error {
	defer m.lock(n).Unlock()
	if off, length := m.extent(n); m.complete(off, length) {
		return nil
	}
	m.table.head.ahead.Add(1)
	return m.load(buf, n, false)
}

// load reads frame n and installs those of its pages that are absent. The caller
// holds the frame's lock.
func (m *served) load(buf []byte, n int64, write bool) error {
	src, err := m.read(buf, n)
	if err != nil {
		return err
	}
	var flags uffd.CopyFlags
	switch {
	case write:
		// The writer goes on at once, without a second fault.
		m.table.dirty.set(n)
		m.table.written.set(n)
	case m.Tracked:
		flags = uffd.CopyWP
	}
	off, length := m.extent(n)
	return m.install(src, off, length, flags)
}

// read reads frame n from where its newest bytes lie outside the memory. The
// result is buf or the zeros.
func (m *served) read(buf []byte, n int64) ([]byte, error) {
	if m.table.spilled.get(n) {
		return m.readSpilled(buf, n)
	}
	begin := time.Now()
	buf = buf[:m.FrameSize]
	zero, err := m.source.ReadFrame(n, buf)
	if err != nil {
		return nil, err
	}
	m.table.head.loaded.Add(1)
	if zero {
		m.table.head.zeros.Add(1)
		return zeros()[:m.FrameSize], nil
	}
	m.loadTime.Store((m.loadTime.Load()*7 + elapsed(begin)) / 8)
	return buf, nil
}

// install copies src to the absent pages of [off, off+length) and wakes those who
// wait for them.
func (m *served) install(src []byte, off, length int64, flags uffd.CopyFlags) error {
	for tries := 0; ; tries++ {
		err := m.uffd.Fill(m.addr(off), address(src), uintptr(length), flags)
		switch {
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
		err := m.fillAhead(buf, n)
		m.makeRoom(buf)
		return err
	})
}
