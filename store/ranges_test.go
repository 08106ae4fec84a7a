package store

import (
	"math/rand/v2"
	"testing"
)

// A spanSet holds what was added and not removed since, knows how much that is, and
// its first part of any range is the lowest one.
func TestSpanSet(t *testing.T) {
	const limit = 60
	r := rand.New(rand.NewPCG(3, 3))
	var s spanSet
	var want [limit + 1]bool
	for step := range 20_000 {
		from := r.Int64N(limit)
		to := from + r.Int64N(limit-from+1)
		add := r.IntN(2) == 0
		for n := from; n < to; n++ {
			want[n] = add
		}
		if add {
			s.add(span{from, to})
		} else {
			s.remove(span{from, to})
		}
		from = r.Int64N(limit)
		to = from + r.Int64N(limit-from+1)
		got, found := s.first(span{from, to})
		first := from
		for first < to && !want[first] {
			first++
		}
		end := first
		for end < to && want[end] {
			end++
		}
		if found != (first < to) || found && got != (span{first, end}) {
			t.Fatalf("step %d: first of %d..%d = %v, %v; want %d..%d", step, from, to, got, found, first, end)
		}
		held := int64(0)
		for n := from; n < to; n++ {
			if want[n] {
				held++
			}
		}
		if n := s.count(span{from, to}); n != held {
			t.Fatalf("step %d: %d..%d holds %d, want %d", step, from, to, n, held)
		}
		all := int64(0)
		for _, in := range want {
			if in {
				all++
			}
		}
		if s.len != all {
			t.Fatalf("step %d: the set holds %d, want %d", step, s.len, all)
		}
		if n := r.Int64N(limit); s.has(n) != want[n] {
			t.Fatalf("step %d: has(%d) = %v, want %v", step, n, !want[n], want[n])
		}
	}
	last := int64(-1)
	s.spans(func(r span) bool {
		if r.from <= last || r.from >= r.to {
			t.Errorf("span %v after one that ends at %d, want them apart", r, last)
		}
		last = r.to
		return true
	})
}
