package uffdmap

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A policy is a memory for some frames. It touches one, and says whether that was
// there.
type policy func(n int64) (hit bool)

// queuePolicy is an evictQueue; visible says that it hears of touches of frames in
// memory, as that of a View mapping does, and that of a served one doesn't.
func queuePolicy(frames int, visible bool) policy {
	var q evictQueue
	in, used := map[int64]bool{}, map[int64]bool{}
	return func(n int64) bool {
		if in[n] {
			used[n] = visible
			return true
		}
		for len(in) >= frames {
			victim, proven := q.next()
			again := proven && used[victim]
			delete(used, victim)
			if again {
				q.keep(victim, true)
				continue
			}
			delete(in, victim)
			q.evicted(victim)
		}
		in[n] = true
		q.add(n)
		return false
	}
}

// fifoPolicy throws out what came first, with lru what was touched longest ago.
func fifoPolicy(frames int, lru bool) policy {
	var order []int64
	return func(n int64) bool {
		i := slices.Index(order, n)
		if i >= 0 && !lru {
			return true
		}
		if i >= 0 {
			order = slices.Delete(order, i, i+1)
		}
		order = append(order, n)
		if len(order) > frames {
			order = order[1:]
		}
		return i >= 0
	}
}

// traces are sequences of touches, for a memory of 400 frames.
func traces() map[string][]int64 {
	const n = 40000
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.1, 1, 4000)
	all := map[string][]int64{}
	for i := range int64(n) {
		loop, scan := 1000+i%600, 1000+i
		if i%2 == 0 {
			loop, scan = r.Int64N(200), r.Int64N(200)
		}
		all["loop and hot set"] = append(all["loop and hot set"], loop)
		all["scan and hot set"] = append(all["scan and hot set"], scan)
		all["zipf"] = append(all["zipf"], int64(zipf.Uint64()))
		all["hot set moves"] = append(all["hot set moves"], i/10000*1000+r.Int64N(500))
	}
	return all
}

func hitRate(p policy, trace []int64) float64 {
	hits := 0
	for _, n := range trace {
		if p(n) {
			hits++
		}
	}
	return 100 * float64(hits) / float64(len(trace))
}

// Frames stay in memory that are needed again: more of them than with the orders in
// which they came or were touched, where a scan or a loop goes by, and hardly
// fewer elsewhere, even where touches are invisible.
func TestEvictionHits(t *testing.T) {
	const frames = 400
	t.Logf("%-18s %6s %6s %8s %8s", "hits in %", "FIFO", "LRU", "served", "View")
	for name, trace := range traces() {
		fifo := hitRate(fifoPolicy(frames, false), trace)
		lru := hitRate(fifoPolicy(frames, true), trace)
		served := hitRate(queuePolicy(frames, false), trace)
		view := hitRate(queuePolicy(frames, true), trace)
		t.Logf("%-18s %6.1f %6.1f %8.1f %8.1f", name, fifo, lru, served, view)
		switch best := max(fifo, lru); {
		case name == "loop and hot set" || name == "scan and hot set":
			if served < best || view < best {
				t.Errorf("%s: %.1f and %.1f %% hits, want more than %.1f", name, served, view, best)
			}
		case served < fifo-3 || view < lru-3:
			t.Errorf("%s: %.1f and %.1f %% hits, want about %.1f and %.1f", name, served, view, fifo, lru)
		}
	}
}

// However frames come and go, each that is in memory is named once by next, and
// what is remembered of those that are not is bounded.
func TestEvictQueue(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	var q evictQueue
	in := map[int64]bool{}
	for step := range 100000 {
		if n := r.Int64N(300); len(in) < 100 && r.IntN(2) == 0 {
			q.add(n) // Twice, perhaps.
			in[n] = true
		} else if len(in) > 0 {
			n, proven := q.next()
			if !in[n] {
				t.Fatalf("seed %d, step %d: next is %d, which is not in memory", seed, step, n)
			}
			if r.IntN(3) == 0 {
				q.keep(n, proven || r.IntN(2) == 0)
			} else {
				delete(in, n)
				q.evicted(n)
			}
		}
		if q.len() != len(in) || len(q.state) > len(in)+q.gone.len() || q.gone.len() > 102 {
			t.Fatalf("seed %d, step %d: %d frames, %d states, %d gone, want %d frames", seed, step, q.len(), len(q.state), q.gone.len(), len(in))
		}
	}
}
