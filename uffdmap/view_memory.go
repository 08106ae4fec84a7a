package uffdmap

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memory is pages outside Go's heap. The zero value is none.
type memory struct {
	b    []byte
	addr uintptr
}

// mapMemory maps n bytes of private anonymous memory, which cost nothing until
// they are touched. From the size of a huge page on they begin where one may.
func mapMemory(n int64, prot int) (memory, error) {
	if n != int64(int(n)) {
		return memory{}, fmt.Errorf("map %#x bytes of memory: %w", n, unix.ENOMEM)
	}
	more := uintptr(0)
	if n >= hugeSize {
		more = hugeSize
	}
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(n)+more, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return memory{}, fmt.Errorf("map %#x bytes of memory: %w", n, err)
	}
	if more > 0 {
		skip := -uintptr(p) & (more - 1)
		end := unsafe.Add(p, skip+uintptr(n))
		if skip > 0 {
			unix.MunmapPtr(p, skip)
		}
		if more > skip {
			unix.MunmapPtr(end, more-skip)
		}
		p = unsafe.Add(p, skip)
	}
	m := memory{unsafe.Slice((*byte)(p), n), uintptr(p)}
	if err := openMemory(m.b, prot); err != nil {
		m.unmap()
		return memory{}, fmt.Errorf("map %#x bytes of memory: %w", n, err)
	}
	return m, nil
}

// openMemory lets memory be touched that was mapped with PROT_NONE. In a program
// that has locked its memory with mlockall the kernel makes pages of all that is
// mapped and can be touched, and drops none: it must be unlocked before.
func openMemory(b []byte, prot int) error {
	return errors.Join(unix.Munlock(b), unix.Mprotect(b, prot))
}

// keepFromChildren leaves b out of a child that is forked: it would find zeros where pages
// are absent.
func keepFromChildren(b []byte) error {
	if err := unix.Madvise(b, unix.MADV_DONTFORK); err != nil {
		return fmt.Errorf("keep memory from children: %w", err)
	}
	return nil
}

// refuseHugePages keeps b in small pages: huge ones blur what was written, and keep memory
// that was evicted.
func refuseHugePages(b []byte) error {
	// A kernel built without them answers EINVAL.
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL {
		return fmt.Errorf("refuse huge pages: %w", err)
	}
	return nil
}

// drop makes pages of m absent, also where the program has locked them since.
func (m memory) drop(pages []byte) error {
	err := unix.Madvise(pages, unix.MADV_DONTNEED)
	if err == unix.EINVAL {
		err = errors.Join(unix.Munlock(m.b), unix.Madvise(pages, unix.MADV_DONTNEED))
	}
	return err
}

func (m memory) unmap() {
	if m.b != nil {
		unix.MunmapPtr(unsafe.Pointer(&m.b[0]), uintptr(len(m.b)))
	}
}

// newTable makes n zeroed values of T, which holds no pointers, that live as
// long as v. Like all memory of mapMemory those never used cost nothing.
func newTable[T any](v *Viewer, n int64) ([]T, error) {
	if n == 0 {
		return nil, nil
	}
	var one T
	m, err := mapMemory(n*int64(unsafe.Sizeof(one)), unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	v.tables = append(v.tables, m)
	return unsafe.Slice((*T)(unsafe.Pointer(&m.b[0])), n), nil
}

// minScratch is the least size of a scratch buffer, in bytes: what one
// goroutine decodes before it asks the kernel to copy.
const minScratch = 256 << 10

// A scratchPool lends buffers that frames are decoded into and copied from. They
// lie outside Go's heap, so that the kernel may be given their address.
type scratchPool struct {
	size int64 // bytes of each, whole frames
	huge bool  // made of huge pages if possible

	mu   sync.Mutex // guards free
	free []memory
}

func (p *scratchPool) get() (memory, error) {
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		m := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return m, nil
	}
	p.mu.Unlock()
	m, err := mapMemory(p.size, unix.PROT_READ|unix.PROT_WRITE)
	if err == nil && p.huge {
		unix.Madvise(m.b, unix.MADV_HUGEPAGE)
	}
	return m, err
}

// put takes a buffer back. More than the cores can use at once are not kept.
func (p *scratchPool) put(m memory) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) >= 2*runtime.GOMAXPROCS(0) {
		m.unmap()
		return
	}
	p.free = append(p.free, m)
}

func (p *scratchPool) unmap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.free {
		m.unmap()
	}
	p.free = nil
}
