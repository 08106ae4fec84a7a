package store

import (
	"cmp"
	"slices"

	"github.com/tidwall/btree"
)

// A gapSet holds extents that neither overlap nor touch.
type gapSet struct {
	byEnd  btree.Map[int64, int64]  // end → offset: cutting at the front keeps the key
	bySize btree.Map[uint64, int64] // sizeKey → length
	bytes  int64                    // of all of them
	blocks int64                    // bytes of the whole blocks in them
}

// sizeLimit is above the length of any frame: gaps of this length and more are
// ordered by offset alone.
const sizeLimit = 4 << 20

// sizeKey orders extents by length, then by offset.
func sizeKey(e extent) uint64 {
	return uint64(min(e.len, sizeLimit))/unit<<44 | uint64(e.off)/unit
}

// load fills the empty set with gaps, which are in order. It reorders them.
func (s *gapSet) load(gaps []extent) {
	for _, g := range gaps {
		s.byEnd.Load(g.end(), g.off)
		s.count(g, +1)
	}
	radixSort(gaps, func(e extent) uint64 { return uint64(min(e.len, sizeLimit)) / unit })
	for _, g := range gaps {
		s.bySize.Load(sizeKey(g), g.len)
	}
}

func (s *gapSet) insert(e extent) {
	s.byEnd.Set(e.end(), e.off)
	s.bySize.Set(sizeKey(e), e.len)
	s.count(e, +1)
}

func (s *gapSet) remove(e extent) {
	s.byEnd.Delete(e.end())
	s.bySize.Delete(sizeKey(e))
	s.count(e, -1)
}

// count keeps the sums when e comes or goes.
func (s *gapSet) count(e extent, by int64) {
	s.bytes += by * e.len
	s.blocks += by * e.blocks().len
}

// cut removes the first n bytes of the gap e.
func (s *gapSet) cut(e extent, n int64) {
	if n == e.len {
		s.remove(e)
		return
	}
	s.bySize.Delete(sizeKey(e))
	s.count(e, -1)
	s.insert(extent{e.off + n, e.len - n})
}

// behind finds the first gap that ends behind off.
func (s *gapSet) behind(off int64) (e extent, ok bool) {
	s.byEnd.Ascend(off+1, func(end, off int64) bool {
		e, ok = extent{off, end - off}, true
		return false
	})
	return e, ok
}

// fit finds the smallest gap of at least n bytes, the lowest of several; among
// those of sizeLimit and more, the lowest.
func (s *gapSet) fit(n int64) (e extent, ok bool) {
	s.bySize.Ascend(sizeKey(extent{0, n}), func(key uint64, length int64) bool {
		e = extent{int64(key&(1<<44-1)) * unit, length}
		ok = length >= n
		return !ok
	})
	return e, ok
}

// radixSort sorts s by key, keeping the order of equal ones: a million extents
// in a tenth of the time that comparing them takes.
func radixSort(s []extent, key func(extent) uint64) {
	const digit = 11
	if slices.IsSortedFunc(s, func(a, b extent) int { return cmp.Compare(key(a), key(b)) }) {
		return
	}
	var all uint64
	for _, e := range s {
		all |= key(e)
	}
	from, to := s, make([]extent, len(s))
	for shift := 0; all>>shift != 0; shift += digit {
		var at [1 << digit]int
		for _, e := range from {
			at[key(e)>>shift&(1<<digit-1)]++
		}
		sum := 0
		for d, n := range at {
			at[d] = sum
			sum += n
		}
		for _, e := range from {
			d := key(e) >> shift & (1<<digit - 1)
			to[at[d]] = e
			at[d]++
		}
		from, to = to, from
	}
	copy(s, from)
}
