package load

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// An op is one operation of a job.
type op struct {
	write bool
	block int64 // counted from the offset of the run
}

// A pattern is the sequence of operations of one job. Patterns of the same
// options and job are the same sequence.
type pattern struct {
	o      *Options
	blocks int64
	rnd    *rand.Rand

	place  [2]int64 // in sequence: the next block to read, and to write
	order  permutation
	passed int64 // in random order: operations since order was made
	zipf   zipf  // with Theta
}

// newPattern makes the pattern of the job with number index.
func newPattern(o *Options, index int) *pattern {
	p := &pattern{o: o, blocks: o.blocks(), rnd: rand.New(rand.NewPCG(o.Seed, uint64(index)))}
	p.order = newPermutation(p.blocks, p.rnd)
	if o.Theta != 0 {
		p.zipf = newZipf(o.Theta, p.blocks)
		// All jobs have the same favourites.
		p.order = newPermutation(p.blocks, rand.New(rand.NewPCG(o.Seed, math.MaxUint64)))
	}
	return p
}

func (p *pattern) next() op {
	write := p.o.Mode.Writes()
	if p.o.Mode.mixed() {
		write = p.rnd.IntN(100) >= p.o.MixRead
	}
	if p.o.Mode.Random() {
		return op{write, p.randomBlock()}
	}
	place := &p.place[0]
	if write {
		place = &p.place[1]
	}
	block := *place
	*place = (block + 1) % p.blocks
	return op{write, block}
}

func (p *pattern) randomBlock() int64 {
	switch {
	case p.o.Theta != 0:
		return p.order.at(p.zipf.draw(p.rnd))
	case p.o.Repeat:
		return p.rnd.Int64N(p.blocks)
	}
	if p.passed == p.blocks {
		p.order, p.passed = newPermutation(p.blocks, p.rnd), 0
	}
	p.passed++
	return p.order.at(p.passed - 1)
}

// A permutation is a random order of the numbers below n that needs no memory
// for them.
type permutation struct {
	n     uint64
	mask  uint64 // the smallest power of two that is at least n, less one
	shift int    // half of its bits
	keys  [4][2]uint64
}

func newPermutation(n int64, rnd *rand.Rand) permutation {
	width := bits.Len64(uint64(n - 1))
	p := permutation{n: uint64(n), mask: 1<<width - 1, shift: (width + 1) / 2}
	for i := range p.keys {
		p.keys[i] = [2]uint64{rnd.Uint64(), rnd.Uint64() | 1}
	}
	return p
}

// at is the number at place i.
//
// Each step maps the numbers up to mask one to one: adding, multiplying by an odd
// number, and folding the upper half onto the lower. So all of them together do,
// and repeating them until the result is below n leaves the numbers below n one to
// one as well.
func (p *permutation) at(i int64) int64 {
	x := uint64(i)
	for {
		for _, k := range p.keys {
			x = (x + k[0]) * k[1] & p.mask
			x ^= x >> p.shift
		}
		if x < p.n {
			return int64(x)
		}
	}
}

// A zipf draws ranks from 0 on, rank r with a probability proportional to
// (r+1)^-theta.
//
// It draws from the area under the curve x^-theta instead of from the steps, and
// rejects what lies between the two: rejection-inversion (Hörmann and Derflinger
// 1996), with the same cost for any number of ranks.
type zipf struct {
	theta      float64
	n          float64
	low, high  float64 // areas at both ends
	sureWithin float64 // a draw this close below its rank is never rejected
}

func newZipf(theta float64, n int64) zipf {
	z := zipf{theta: theta, n: float64(n)}
	z.low = z.area(1.5) - 1
	z.high = z.area(z.n + 0.5)
	z.sureWithin = 2 - z.areaEnd(z.area(2.5)-math.Pow(2, -theta))
	return z
}

// area is the area under the curve up to x, but for a constant; areaEnd is its
// inverse.
func (z *zipf) area(x float64) float64 { return math.Pow(x, 1-z.theta) / (1 - z.theta) }
func (z *zipf) areaEnd(a float64) float64 {
	return math.Pow(a*(1-z.theta), 1/(1-z.theta))
}

func (z *zipf) draw(rnd *rand.Rand) int64 {
	for {
		a := z.high + rnd.Float64()*(z.low-z.high)
		x := z.areaEnd(a)
		rank := min(max(math.Floor(x+0.5), 1), z.n)
		if rank-x <= z.sureWithin || a >= z.area(rank+0.5)-math.Pow(rank, -z.theta) {
			return int64(rank) - 1
		}
	}
}
