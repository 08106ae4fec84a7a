package store

// An extent is a run of bytes of a store file.
type extent struct{ off, len int64 }

func (e extent) end() int64 { return e.off + e.len }

// overlaps reports whether e and other share bytes.
func (e extent) overlaps(other extent) bool { return e.off < other.end() && other.off < e.end() }

// span is the offsets of the bytes of e.
func (e extent) span() span { return span{e.off, e.end()} }

// touched is the blocks that hold bytes of e.
func (e extent) touched() span { return span{e.off &^ (blockLen - 1), roundUp(e.end(), blockLen)} }

// blocks are the whole blocks in e.
func (e extent) blocks() extent {
	off := roundUp(e.off, blockLen)
	return extent{off, max(0, e.end()&^(blockLen-1)-off)}
}

const (
	// runBytes is the least gap that is filled from its front whatever is asked
	// for, and the longest stretch that the file grows by before gaps are
	// looked at again.
	runBytes = 256 << 10
	// idleBytes of free space, or an eighth of the file when that is less, are
	// collected before small gaps are filled: the more gaps there are, the
	// better one fits.
	idleBytes = 16 << 20
)

// An allocator hands out the space of one store file, in units of 8 bytes. It
// is not safe for concurrent use: Store.mu guards it.
//
// Allocations lie one behind the other as long as that is possible, so that the
// frames of one commit can be written at once: an allocation continues behind
// the last one; else it begins a gap of at least runBytes; else, when there is
// free space to speak of, it takes the gap that it fits best; else the file
// grows.
type allocator struct {
	start int64 // lowest offset that is handed out
	top   int64 // first byte behind everything in use
	gaps  gapSet
	next  int64 // where the last allocation ended, -1 before the first
	grown int64 // where the file began to grow in one run
}

// newAllocator makes the allocator of a file in which exactly used is in use,
// in any order; everything else from start on is free. It sorts used. Extents
// that overlap each other, or lie where none can be, are damage of the index.
func newAllocator(start int64, used []extent) (*allocator, error) {
	radixSort(used, func(e extent) uint64 { return uint64(e.off) / unit })
	a := &allocator{start: start, top: start, next: -1}
	var gaps []extent
	for i, e := range used {
		if err := checkExtent(e, start); err != nil {
			return nil, err
		}
		if e.off < a.top {
			return nil, damagef("index", e.off, "extent %#x..%#x overlaps %#x..%#x, want them apart",
				e.off, e.end(), used[i-1].off, used[i-1].end())
		}
		if e.off > a.top {
			gaps = append(gaps, extent{a.top, e.off - a.top})
		}
		a.top = e.end()
	}
	a.gaps.load(gaps)
	return a, nil
}

func checkExtent(e extent, start int64) error {
	if e.off < start || e.off%unit != 0 || e.len <= 0 || e.len > maxFileSize || e.off > maxFileSize-e.len {
		return damagef("index", e.off, "extent has offset %#x and %#x bytes, want a multiple of 8 within %#x..%#x",
			uint64(e.off), uint64(e.len), start, int64(maxFileSize))
	}
	return nil
}

// alloc takes n bytes, rounded up to 8, and returns their offset. n is above 0.
func (a *allocator) alloc(n int64) int64 {
	n = roundUp(n, unit)
	g, ok := a.pick(n)
	if !ok {
		return a.grow(n)
	}
	a.gaps.cut(g, n)
	a.next = g.off + n
	return g.off
}

// grow is alloc at the end of the file.
func (a *allocator) grow(n int64) int64 {
	off := a.top
	if a.next != off || off-a.grown >= a.patience(runBytes) {
		a.grown = off
	}
	a.top += roundUp(n, unit)
	a.next = a.top
	return off
}

// pick chooses the gap for n bytes; without one the file grows.
func (a *allocator) pick(n int64) (extent, bool) {
	if a.next == a.top && a.top-a.grown < a.patience(runBytes) {
		return extent{}, false
	}
	if g, ok := a.gaps.behind(a.next); ok && g.off == a.next && g.len >= n {
		return g, true
	}
	if g, ok := a.gaps.fit(max(n, runBytes)); ok {
		return g, true
	}
	if a.gaps.bytes >= a.patience(idleBytes) {
		return a.gaps.fit(n)
	}
	return extent{}, false
}

// patience is limit, or less in a small file.
func (a *allocator) patience(limit int64) int64 { return min(limit, a.top/8) }

// free gives e, its length rounded up to 8, back. Space at the end of the file
// lowers end.
func (a *allocator) free(e extent) {
	e.len = roundUp(e.len, unit)
	g, ok := a.gaps.behind(e.off)
	if e.off < a.start || e.end() > a.top || ok && g.off < e.end() {
		panic("store: space freed that is not in use")
	}
	if ok && g.off == e.end() {
		a.gaps.remove(g)
		e.len += g.len
	}
	if off, ok := a.gaps.byEnd.Get(e.off); ok {
		a.gaps.remove(extent{off, e.off - off})
		e.len += e.off - off
		e.off = off
	}
	if e.end() < a.top {
		a.gaps.insert(e)
		return
	}
	a.top = e.off
}

// claim takes e, its length rounded up to 8, which may lie behind end. When any
// of it is in use that is damage.
func (a *allocator) claim(e extent) error {
	if err := checkExtent(e, a.start); err != nil {
		return err
	}
	e.len = roundUp(e.len, unit)
	if e.off >= a.top {
		if e.off > a.top {
			a.gaps.insert(extent{a.top, e.off - a.top})
		}
		a.top = e.end()
		return nil
	}
	g, ok := a.gaps.behind(e.off)
	if !ok || g.off > e.off || g.end() < e.end() {
		return damagef("log", e.off, "extent %#x..%#x is in use, want it free", e.off, e.end())
	}
	a.gaps.remove(g)
	if e.off > g.off {
		a.gaps.insert(extent{g.off, e.off - g.off})
	}
	if e.end() < g.end() {
		a.gaps.insert(extent{e.end(), g.end() - e.end()})
	}
	return nil
}

// end is the first byte behind everything in use.
func (a *allocator) end() int64 { return a.top }

// room is the number of free bytes from off on, up to the next in use.
func (a *allocator) room(off int64) int64 {
	if off >= a.top {
		return maxFileSize - off
	}
	if g, ok := a.gaps.behind(off); ok && g.off <= off {
		return g.end() - off
	}
	return 0
}

// freeBytes is the free space below end.
func (a *allocator) freeBytes() int64 { return a.gaps.bytes }

// freeBlocks is the bytes of the whole blocks in it.
func (a *allocator) freeBlocks() int64 { return a.gaps.blocks }

// holes yields the free extents below end of at least least bytes, by offset,
// until yield returns false. yield may not use the allocator.
func (a *allocator) holes(least int64, yield func(extent) bool) {
	a.gaps.byEnd.Scan(func(end, off int64) bool {
		return end-off < least || yield(extent{off, end - off})
	})
}

// longest yields the free extents below end of at least least bytes, those of
// sizeLimit and more first, then by length, until yield returns false. yield may not
// use the allocator.
func (a *allocator) longest(least int64, yield func(extent) bool) {
	a.gaps.bySize.Reverse(func(key uint64, length int64) bool {
		return length >= least && yield(extent{int64(key&(1<<44-1)) * unit, length})
	})
}
