package store

import "github.com/tidwall/btree"

// A span is the numbers, of frames or of bytes, from from on and below to.
type span struct{ from, to int64 }

// covers reports whether all of other is in r.
func (r span) covers(other span) bool { return r.from <= other.from && other.to <= r.to }

// A spanSet is a set of numbers, kept as spans that do not touch. The zero value
// is empty.
type spanSet struct {
	byEnd btree.Map[int64, int64] // end → beginning
	len   int64                   // how many numbers are in it
}

func (s *spanSet) has(n int64) bool {
	_, found := s.first(span{n, n + 1})
	return found
}

// first returns the lowest part of r that is in the set.
func (s *spanSet) first(r span) (part span, found bool) {
	s.byEnd.Ascend(r.from+1, func(to, from int64) bool {
		part = span{max(from, r.from), min(to, r.to)}
		return false
	})
	return part, part.from < part.to
}

// without yields the parts of r that are not in the set, in order, until yield
// returns false.
func (s *spanSet) without(r span, yield func(span) bool) {
	for r.from < r.to {
		part, found := s.first(r)
		if !found {
			yield(r)
			return
		}
		if r.from < part.from && !yield(span{r.from, part.from}) {
			return
		}
		r.from = part.to
	}
}

// count is how many numbers of r are in the set.
func (s *spanSet) count(r span) (n int64) {
	for part, found := s.first(r); found; part, found = s.first(span{part.to, r.to}) {
		n += part.to - part.from
	}
	return n
}

func (s *spanSet) add(r span) {
	if r.from >= r.to {
		return
	}
	for {
		old, ok := s.touching(r)
		if !ok {
			s.set(r)
			return
		}
		s.delete(old)
		r = span{min(r.from, old.from), max(r.to, old.to)}
	}
}

func (s *spanSet) remove(r span) {
	for {
		old, ok := s.touching(span{r.from + 1, r.to - 1})
		if !ok || r.from >= r.to {
			return
		}
		s.delete(old)
		if old.from < r.from {
			s.set(span{old.from, r.from})
		}
		if r.to < old.to {
			s.set(span{r.to, old.to})
		}
	}
}

// set puts r, which the set does not touch, into it.
func (s *spanSet) set(r span) {
	s.byEnd.Set(r.to, r.from)
	s.len += r.to - r.from
}

// delete takes r, one of its spans, out of the set.
func (s *spanSet) delete(r span) {
	s.byEnd.Delete(r.to)
	s.len -= r.to - r.from
}

// touching returns the lowest span of the set that overlaps r or ends or begins
// where r does.
func (s *spanSet) touching(r span) (old span, ok bool) {
	s.byEnd.Ascend(r.from, func(to, from int64) bool {
		old, ok = span{from, to}, from <= r.to
		return false
	})
	return old, ok
}

// spans yields the set in order.
func (s *spanSet) spans(yield func(span) bool) {
	s.byEnd.Scan(func(to, from int64) bool { return yield(span{from, to}) })
}
