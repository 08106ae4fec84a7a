package uffdmap

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// A pageSet is a set of page numbers. Its methods may be called from many
// goroutines at once. A second level has a bit for each word that may not be
// empty, so that walking a nearly empty set costs next to nothing.
type pageSet struct {
	words   []atomic.Uint64
	summary []atomic.Uint64
}

// init makes the set empty, with room for page numbers below pages.
func (s *pageSet) init(v *Viewer, pages int64) (err error) {
	n := (pages + 63) / 64
	if s.words, err = newTable[atomic.Uint64](v, n); err != nil {
		return err
	}
	s.summary, err = newTable[atomic.Uint64](v, (n+63)/64)
	return err
}

// or adds the pages of word i that bits names.
func (s *pageSet) or(i int64, bits uint64) {
	if bits != 0 {
		s.words[i].Or(bits)
		s.mark(i)
	}
}

// mark notes in the summary that word i may not be empty. It comes after the
// change of the word.
func (s *pageSet) mark(i int64) {
	if bit := uint64(1) << (i % 64); s.summary[i/64].Load()&bit == 0 {
		s.summary[i/64].Or(bit)
	}
}

// add adds the pages from first on and below end.
func (s *pageSet) add(first, end int64) {
	for i := first / 64; i*64 < end; i++ {
		s.or(i, maskOf(i, first, end))
	}
}

// maskOf is the part of word i that lies in the pages from first on and below end.
func maskOf(i, first, end int64) uint64 {
	mask := ^uint64(0)
	if low := first - i*64; low > 0 {
		mask &= ^uint64(0) << low
	}
	if high := end - i*64; high < 64 {
		mask &= 1<<max(high, 0) - 1
	}
	return mask
}

// has says whether any page from first on and below end is in the set.
func (s *pageSet) has(first, end int64) bool {
	for i := first / 64; i*64 < end; i++ {
		if s.words[i].Load()&maskOf(i, first, end) != 0 {
			return true
		}
	}
	return false
}

// cut takes the pages from first on and below end, those of one frame, out of
// the set, and returns the words they were in; paste adds them again.
func (s *pageSet) cut(first, end int64) (words [4]uint64) {
	for i := first / 64; i*64 < end; i++ {
		mask := maskOf(i, first, end)
		words[i-first/64] = s.words[i].And(^mask) & mask
	}
	return words
}

func (s *pageSet) paste(first int64, words [4]uint64) {
	for i, w := range words {
		s.or(first/64+int64(i), w)
	}
}

// A pageWord is 64 pages of a set, from page 64*i on.
type pageWord struct {
	i    int64
	bits uint64
}

// all walks the words that are not empty, in order.
func (s *pageSet) all() iter.Seq[pageWord] {
	return func(yield func(pageWord) bool) {
		for j := range s.summary {
			for sum := s.summary[j].Load(); sum != 0; sum &= sum - 1 {
				i := int64(j*64 + bits.TrailingZeros64(sum))
				w := s.words[i].Load()
				if w == 0 {
					s.forget(i)
				} else if !yield(pageWord{i, w}) {
					return
				}
			}
		}
	}
}

// forget takes the empty word i out of the summary, unless it fills meanwhile.
func (s *pageSet) forget(i int64) {
	s.summary[i/64].And(^uint64(1 << (i % 64)))
	if s.words[i].Load() != 0 {
		s.mark(i)
	}
}

// take empties the set and returns what it held.
func (s *pageSet) take() []pageWord {
	var all []pageWord
	for w := range s.all() {
		if w.bits = s.words[w.i].Swap(0); w.bits != 0 {
			all = append(all, w)
		}
	}
	return all
}

// put adds what take returned.
func (s *pageSet) put(all []pageWord) {
	for _, w := range all {
		s.or(w.i, w.bits)
	}
}

// unionOf walks the words that are not empty in a or b, which have room for as many pages,
// in order.
func unionOf(a, b *pageSet) iter.Seq[pageWord] {
	return func(yield func(pageWord) bool) {
		for j := range a.summary {
			for sum := a.summary[j].Load() | b.summary[j].Load(); sum != 0; sum &= sum - 1 {
				i := int64(j*64 + bits.TrailingZeros64(sum))
				if w := a.words[i].Load() | b.words[i].Load(); w != 0 && !yield(pageWord{i, w}) {
					return
				}
			}
		}
	}
}
