package uffdmap

import (
	"fmt"
	"iter"
	"math"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A table is what is known of a served mapping's frames, in memory that the
// program, the pager and the standby share. The program reads it, the pager
// alone changes it.
//
// It outlives a pager that dies at any instruction, because each change is one
// atomic operation and their order is fixed: a frame's bits are set before a
// write to it is let through, and cleared after its bytes are stored.
//
// A frame costs memory in it when a bit of it, or of one of its neighbours, is first
// set: the size of a store is only what the store says.
type table struct {
	fd   int // of mem; its owner's
	mem  []byte
	head *tableHead

	dirty   bitmap // written since its last write-back began
	syncing bitmap // its write-back began and is not committed
	written bitmap // written since the mapping was made or protected
	spilled bitmap // where it is absent, the spill file holds its bytes
}

// tableHead is the first page of a table.
type tableHead struct {
	generation atomic.Uint64 // of a store mapped read-only, which may not change; 0: not known yet

	faults    atomic.Uint64 // touches of absent pages that were answered
	writes    atomic.Uint64 // writes to protected frames that were let through
	loaded    atomic.Uint64 // frames read from the store, zeros included
	zeros     atomic.Uint64 // those that were zeros
	ahead     atomic.Uint64 // those that nobody had touched yet
	poisoned  atomic.Uint64 // frames that could not be read
	stored    atomic.Uint64 // frames written back
	evicted   atomic.Uint64 // frames evicted
	takeovers atomic.Uint64 // pagers that died and were replaced
}

const tableHeadLen = pageSize

var _ [tableHeadLen - unsafe.Sizeof(tableHead{})]byte

// bitmapLen is the bytes that a bitmap of n frames takes.
func bitmapLen(n int64) int64 { return (n + 63) / 64 * 8 }

// bitmapRoom is the bytes from one bitmap of a table to the next: whole pages.
func bitmapRoom(n int64) int64 { return (bitmapLen(n) + pageSize - 1) &^ (pageSize - 1) }

func tableLen(frames int64) int64 { return tableHeadLen + 4*bitmapRoom(frames) }

// newTableMemory makes the shared memory of a table for a mapping of so many frames.
func newTableMemory(frames int64) (fd int, err error) {
	fd, err = unix.MemfdCreate("lazyfs-table", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("make the table of frames: %w", err)
	}
	if err := unix.Ftruncate(fd, tableLen(frames)); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make the table of frames: %w", err)
	}
	return fd, nil
}

// mapTable maps the table in fd; only a pager asks for one it can change.
func mapTable(fd int, frames int64, writable bool) (*table, error) {
	prot := unix.PROT_READ
	if writable {
		prot |= unix.PROT_WRITE
	}
	mem, err := unix.Mmap(fd, 0, int(tableLen(frames)), prot, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the table of frames: %w", err)
	}
	t := &table{fd: fd, mem: mem, head: (*tableHead)(unsafe.Pointer(&mem[0]))}
	rest := mem[tableHeadLen:]
	for _, b := range []*bitmap{&t.dirty, &t.syncing, &t.written, &t.spilled} {
		*b = bitmapIn(rest, frames)
		rest = rest[bitmapRoom(frames):]
	}
	return t, nil
}

func (t *table) close() { unix.Munmap(t.mem) }

// restoreDirty makes the frames of a write-back that was not committed dirty
// again.
func (t *table) restoreDirty() {
	for n := range t.union(t.syncing, nil, 0) {
		t.dirty.set(n)
		t.syncing.clear(n)
	}
}

// isDirty says whether memory may hold another frame n than the store.
func (t *table) isDirty(n int64) bool {
	// restoreDirty moves it back without its lock: looking at dirty twice never misses it.
	return t.dirty.get(n) || t.syncing.get(n) || t.dirty.get(n)
}

// A bitmap is a set of frame numbers that processes share.
type bitmap []uint64

// bitmapIn is the bitmap of n frames at the beginning of mem.
func bitmapIn(mem []byte, n int64) bitmap {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(mem))), bitmapLen(n)/8)
}

func (b bitmap) get(n int64) bool { return atomic.LoadUint64(&b[n/64])&(1<<(n%64)) != 0 }
func (b bitmap) set(n int64)      { atomic.OrUint64(&b[n/64], 1<<(n%64)) }
func (b bitmap) clear(n int64)    { atomic.AndUint64(&b[n/64], ^uint64(1<<(n%64))) }

// union yields the members of a or b, which are bitmaps of t, in order, from word from
// on; b may be nil. What changes meanwhile may be seen or not.
func (t *table) union(a, b bitmap, from int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for i := from; i < int64(len(a)); i++ {
			if i == from || i%(pageSize/8) == 0 {
				if i = min(t.begun(a, i), t.begun(b, i)); i >= int64(len(a)) {
					return
				}
			}
			w := atomic.LoadUint64(&a[i])
			if b != nil {
				// A member moves from a to b and back, and is always in one of
				// them: looking at a twice never misses it.
				w |= atomic.LoadUint64(&b[i])
				w |= atomic.LoadUint64(&a[i])
			}
			for ; w != 0; w &= w - 1 {
				if !yield(i*64 + int64(bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// begun is the first word of b, from i on, in a page that has memory. In others nobody
// has ever set a bit, and a look would give them memory.
func (t *table) begun(b bitmap, i int64) int64 {
	if b == nil {
		return math.MaxInt64
	}
	off := int64(uintptr(unsafe.Pointer(&b[i])) - address(t.mem))
	data, err := unix.Seek(t.fd, off, unix.SEEK_DATA)
	if err != nil { // There is none up to the end.
		return math.MaxInt64
	}
	return i + (data-off)/8
}
