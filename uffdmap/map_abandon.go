package uffdmap

import (
	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
)

// maxPoisoned bounds the pages that are absent side by side and are poisoned one by one
// where they can be protected at once, in bytes: a poisoned page costs an entry of a page table, and a mapping may be much
// larger than all memory.
const maxPoisoned = 2 << 20

// abandon makes the pages that are absent a fault for who touches them, and lets writers
// go on to the others: no pager will ever serve m again. The caller holds the client's mu.
func (m *Mapping) abandon() {
	u := uffd.FromFd(m.fds[fdUffd], m.Features)
	if m.Tracked {
		m.unnoted.Store(true)
		// Also the markers of absent pages, which stop UFFDIO_POISON with EEXIST.
		u.WriteProtect(uintptr(m.Base), uintptr(m.Len), false, true)
	}
	for off := int64(0); off < m.Len; {
		hole, end := m.nextHole(off)
		// Memory may be in as many pieces already as the kernel allows.
		if end-hole <= maxPoisoned || unix.Mprotect(m.mem[hole:end], unix.PROT_NONE) != nil {
			m.poison(u, hole, end)
		}
		off = end
	}
	u.Wake(uintptr(m.Base), uintptr(m.Len))
}

// nextHole is where the next pages lie from off on that are absent, and where they end.
func (m *Mapping) nextHole(off int64) (hole, end int64) {
	hole, err := unix.Seek(m.memory, off, unix.SEEK_HOLE)
	if err != nil {
		return m.Len, m.Len
	}
	end, err = unix.Seek(m.memory, hole, unix.SEEK_DATA)
	if err != nil { // There is nothing up to the end.
		end = m.Len
	}
	return hole, end
}

// poison makes the absent pages from off on and below end a SIGBUS for who touches them.
func (m *Mapping) poison(u *uffd.FD, off, end int64) {
	for off < end {
		n, err := u.Poison(uintptr(m.Base)+uintptr(off), uintptr(end-off))
		switch {
		case err == nil || err == unix.EAGAIN:
			off += int64(n)
		case err == unix.EEXIST: // It is poisoned already.
			off += pageSize
		default:
			return
		}
	}
}
