package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A permutation has each number below n once, whatever n is.
func TestPermutation(t *testing.T) {
	sizes := []int64{1000, 1024, 1025, 65537}
	for n := int64(1); n < 130; n++ {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		p := newPermutation(n, rand.New(rand.NewPCG(1, uint64(n))))
		seen := make([]bool, n)
		for i := range n {
			at := p.at(i)
			if at < 0 || at >= n || seen[at] {
				t.Fatalf("of %d numbers place %d has %d, which is too large or comes twice", n, i, at)
			}
			seen[at] = true
		}
	}
}

// Every pass over random blocks has each block once and in another order; with
// norandommap blocks repeat. The same seed gives the same sequence, another job
// or seed another one.
func TestPatterns(t *testing.T) {
	const blocks = 257
	draw := func(o Options, job int) (all []int64) {
		o.Mode, o.Block, o.Size = RandRead, 1, blocks
		p := newPattern(&o, job)
		for range 3 * blocks {
			all = append(all, p.next().block)
		}
		return all
	}
	whole := func(s []int64) bool {
		s = slices.Clone(s)
		slices.Sort(s)
		return len(slices.Compact(s)) == blocks
	}
	a := draw(Options{Seed: 1}, 0)
	for pass := range slices.Chunk(a, blocks) {
		if !whole(pass) {
			t.Error("a pass lacks a block")
		}
	}
	if slices.Equal(a[:blocks], a[blocks:2*blocks]) {
		t.Error("the second pass has the order of the first")
	}
	if !slices.Equal(a, draw(Options{Seed: 1}, 0)) {
		t.Error("the same seed gives another sequence")
	}
	if slices.Equal(a, draw(Options{Seed: 2}, 0)) || slices.Equal(a, draw(Options{Seed: 1}, 1)) {
		t.Error("another seed or job gives the same sequence")
	}
	if whole(draw(Options{Repeat: true}, 0)[:blocks]) {
		t.Error("with norandommap no block repeats")
	}
}

// A random order shows no sequence: steps of one are as rare as chance has it.
func TestRandomOrder(t *testing.T) {
	o := Options{Mode: RandRead, Block: 1, Size: 100000}
	p := newPattern(&o, 0)
	steps, last := 0, int64(-10)
	for range o.Size {
		b := p.next().block
		if d := b - last; d >= -1 && d <= 1 {
			steps++
		}
		last = b
	}
	if steps > 20 { // 2 are expected
		t.Errorf("%d of %d steps lead to a neighbour", steps, o.Size)
	}
}

// Ranks come as often as the formula says.
func TestZipf(t *testing.T) {
	const draws = 200000
	for _, theta := range []float64{0.3, 0.9, 1.1, 2.5} {
		for _, n := range []int64{1, 2, 1000} {
			z := newZipf(theta, n)
			rnd := rand.New(rand.NewPCG(7, uint64(n)))
			counts := make([]int, n)
			for range draws {
				counts[z.draw(rnd)]++
			}
			sum := 0.0
			for i := range n {
				sum += math.Pow(float64(i+1), -theta)
			}
			for i := range min(n, 10) {
				want := draws * math.Pow(float64(i+1), -theta) / sum
				if d := math.Abs(float64(counts[i]) - want); d > 5*math.Sqrt(want)+1 {
					t.Errorf("theta %g, %d ranks: rank %d came %d times, want %.0f", theta, n, i, counts[i], want)
				}
			}
		}
	}
}

// A bucket's value lies in it, and within 1/128 of all that does.
func TestBuckets(t *testing.T) {
	for i := range bucketCount {
		if got := bucketOf(uint64(bucketValue(i))); got != i {
			t.Fatalf("the value %d of bucket %d lies in bucket %d", bucketValue(i), i, got)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 100000 {
		ns := rnd.Int64N(1 << rnd.IntN(40))
		if got := bucketValue(bucketOf(uint64(ns))); math.Abs(float64(got-ns)) > float64(ns)/128 {
			t.Fatalf("%d ns counts as %d", ns, got)
		}
	}
	if got := bucketOf(math.MaxUint64); got != bucketCount-1 {
		t.Errorf("the longest duration lies in bucket %d", got)
	}
}

// Percentiles, mean and deviation are those of the durations.
func TestLatency(t *testing.T) {
	var l, other Latency
	for i := 1; i <= 10000; i++ {
		into := &l
		if i%3 == 0 {
			into = &other
		}
		into.add(time.Duration(i) * time.Microsecond)
	}
	l.merge(&other)
	for i, got := range l.percentileValues() {
		if want := percentiles[i] * 100e3; math.Abs(float64(got)-want) > want/64 {
			t.Errorf("percentile %g is %d, want %.0f", percentiles[i], got, want)
		}
	}
	if l.N != 10000 || l.Min != time.Microsecond || l.Max != 10*time.Millisecond || math.Abs(l.mean()-5000500) > 1 || math.Abs(l.deviation()-2886895.7) > 1 {
		t.Errorf("N %d, min %v, max %v, mean %f, deviation %f", l.N, l.Min, l.Max, l.mean(), l.deviation())
	}
}

// Numbers have four digits at most, as in fio's output.
func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 7: "7", 9999: "9999", 10000: "10.0k", 23400: "23.4k", 171666: "172k", 9999499: "9999k", 1e7: "10.0M", 99960: "100k"} {
		if got := short(v, 1000); got != want {
			t.Errorf("short(%g) is %q, want %q", v, got, want)
		}
	}
	if got := short(16<<20, 1024); got != "16.0Mi" {
		t.Errorf("short(16 MiB) is %q", got)
	}
}
