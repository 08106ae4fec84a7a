package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// allocModel knows which units of a small file are in use.
type allocModel struct {
	*allocator
	inUse []bool // by unit from the file's begin
	live  []extent
	most  int64 // bytes that are taken at once
}

func (m *allocModel) set(e extent, used bool) error {
	for i := e.off / unit; i < e.end()/unit; i++ {
		for int64(len(m.inUse)) <= i {
			m.inUse = append(m.inUse, false)
		}
		if m.inUse[i] == used {
			return fmt.Errorf("unit %#x of extent %#x..%#x: in use is %v already", i*unit, e.off, e.end(), used)
		}
		m.inUse[i] = used
	}
	return nil
}

// check compares everything that the allocator says with the model.
func (m *allocModel) check() error {
	end := m.start
	for i, used := range m.inUse {
		if used {
			end = int64(i+1) * unit
		}
	}
	if m.end() != end {
		return fmt.Errorf("end is %#x, want %#x", m.end(), end)
	}
	var want []extent
	var free int64
	for off := m.start; off < end; off += unit {
		if m.inUse[off/unit] {
			continue
		}
		free += unit
		if n := len(want); n > 0 && want[n-1].end() == off {
			want[n-1].len += unit
		} else {
			want = append(want, extent{off, unit})
		}
	}
	var got []extent
	m.holes(0, func(e extent) bool { got = append(got, e); return true })
	if !slices.Equal(got, want) {
		return fmt.Errorf("holes are %x, want %x", got, want)
	}
	if m.freeBytes() != free {
		return fmt.Errorf("%d bytes are free, want %d", m.freeBytes(), free)
	}
	var blocks int64
	for _, e := range want {
		blocks += max(0, e.end()/blockLen-(e.off+blockLen-1)/blockLen) * blockLen
	}
	if m.freeBlocks() != blocks {
		return fmt.Errorf("%d bytes of whole blocks are free, want %d", m.freeBlocks(), blocks)
	}
	if m.gaps.bySize.Len() != len(want) {
		return fmt.Errorf("%d gaps by size, want %d", m.gaps.bySize.Len(), len(want))
	}
	return nil
}

// Whatever is allocated, freed and claimed in whatever order, no byte belongs
// to two extents, free space is never lost, and an allocator that is made from
// the extents in use says the same as the one that handed them out.
func TestAllocatorModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 60 {
		first, err := newAllocator(4096, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := &allocModel{allocator: first, most: []int64{300, 6000}[round%2]}
		for step := range 300 {
			err := m.step(r)
			if err == nil {
				err = m.check()
			}
			if err != nil {
				t.Fatalf("seed %d, round %d, step %d: %v", seed, round, step, err)
			}
			if step%100 != 99 {
				continue
			}
			used := slices.Clone(m.live)
			r.Shuffle(len(used), func(i, j int) { used[i], used[j] = used[j], used[i] })
			again, err := newAllocator(4096, used)
			if err != nil {
				t.Fatalf("seed %d, round %d, step %d: load: %v", seed, round, step, err)
			}
			m.allocator = again
			if err := m.check(); err != nil {
				t.Fatalf("seed %d, round %d, step %d: loaded: %v", seed, round, step, err)
			}
		}
	}
}

func (m *allocModel) step(r *rand.Rand) error {
	switch n := r.IntN(10); {
	case n < 5:
		size := 1 + r.Int64N(m.most)
		e := extent{m.alloc(size), roundUp(size, unit)}
		m.live = append(m.live, e)
		return m.set(e, true)
	case n < 9 && len(m.live) > 0:
		i := r.IntN(len(m.live))
		e := m.live[i]
		m.live[i] = m.live[len(m.live)-1]
		m.live = m.live[:len(m.live)-1]
		m.free(e)
		return m.set(e, false)
	}
	e := extent{m.start + r.Int64N(m.end()+400-m.start)&^(unit-1), unit * (1 + r.Int64N(m.most/unit))}
	free := true
	for i := e.off / unit; i < min(e.end()/unit, int64(len(m.inUse))); i++ {
		free = free && !m.inUse[i]
	}
	if err := m.claim(e); (err == nil) != free {
		return fmt.Errorf("claim of %#x..%#x, free is %v: %v", e.off, e.end(), free, err)
	} else if err != nil {
		return nil
	}
	m.live = append(m.live, e)
	return m.set(e, true)
}

// Extents that no index can name are damage, with both of them in the text when
// they overlap; none makes the allocator believe a wrong number.
func TestAllocatorRefusesDamage(t *testing.T) {
	for _, used := range [][]extent{
		{{4096, 64}, {8192, 64}, {4152, 8}},
		{{4096, 64}, {4096, 64}},
		{{4088, 16}},
		{{-8, 16}},
		{{4100, 8}},
		{{4096, 0}},
		{{4096, -8}},
		{{1<<63 - 8, 8}},
		{{4096, 1<<63 - 8}},
		{{maxFileSize, 8}},
	} {
		if _, err := newAllocator(4096, slices.Clone(used)); !errors.Is(err, ErrDamaged) {
			t.Errorf("extents %x in use: %v, want ErrDamaged", used, err)
		}
	}
	_, err := newAllocator(4096, []extent{{8192, 64}, {4152, 16}, {4096, 64}})
	if both := "0x1038..0x1048 overlaps 0x1000..0x1040"; err == nil || !strings.Contains(err.Error(), both) {
		t.Errorf("overlap: %v, want %q", err, both)
	}
	a, err := newAllocator(4096, []extent{{4096, 64}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []extent{{4096, 64}, {4152, 16}, {0, 8}, {maxFileSize - 8, 16}, {4160, -8}} {
		if err := a.claim(e); !errors.Is(err, ErrDamaged) {
			t.Errorf("claim of %x: %v, want ErrDamaged", e, err)
		}
	}
	if a.end() != 4160 || a.freeBytes() != 0 {
		t.Errorf("after refused claims: end %#x, %d free, want 0x1040, 0", a.end(), a.freeBytes())
	}
}

// Freeing twice is a mistake of this package, which must not become a store
// with two frames in one place.
func TestAllocatorDoubleFree(t *testing.T) {
	a, err := newAllocator(4096, []extent{{4096, 64}, {5000, 8}})
	if err != nil {
		t.Fatal(err)
	}
	a.free(extent{4096, 64})
	defer func() {
		if recover() == nil {
			t.Error("second free of an extent went through")
		}
	}()
	a.free(extent{4152, 8})
}

// overwriter is what a store does with its allocator: frames are rewritten, and
// what a commit frees can be used from the next commit on.
type overwriter struct {
	*allocator
	r       *rand.Rand
	frames  []extent
	pending []extent
	live    int64
	peak    int64
	follows int // allocations right behind the one before
	commit  int // frames of a commit
}

func (o *overwriter) rewrite(frame int) {
	n := 3000 + o.r.Int64N(9000)
	e := extent{0, roundUp(n, unit)}
	behind := o.next
	if e.off = o.alloc(n); e.off == behind {
		o.follows++
	}
	if old := o.frames[frame]; old.len > 0 {
		o.pending = append(o.pending, old)
		o.live -= old.len
	}
	o.frames[frame] = e
	o.live += e.len
	o.peak = max(o.peak, o.end())
	if len(o.pending) >= o.commit {
		for _, old := range o.pending {
			o.free(old)
		}
		o.pending = o.pending[:0]
	}
}

// A store whose frames are overwritten at random ten times over keeps its file
// below 1.5 times what they take plus 64 MiB, whatever the size of its commits.
func TestAllocatorKeepsFileSmall(t *testing.T) {
	alone(t)
	for commit, frames := range map[int]int{1: 8192, 256: 65536, 4096: 16384} {
		a, err := newAllocator(4096, nil)
		if err != nil {
			t.Fatal(err)
		}
		seed := rand.Uint64()
		o := &overwriter{allocator: a, r: rand.New(rand.NewPCG(seed, 0)), frames: make([]extent, frames), commit: commit}
		for i := range o.frames {
			o.rewrite(i)
		}
		if o.freeBytes() != 0 || o.follows != len(o.frames)-1 {
			t.Errorf("first writes leave %d bytes free, %d of %d in a row", o.freeBytes(), o.follows, len(o.frames))
		}
		o.follows = 0
		begin := time.Now()
		for range 10 * len(o.frames) {
			o.rewrite(o.r.IntN(len(o.frames)))
		}
		t.Logf("commits of %d: file %d MiB for %d MiB live, %.0f%% in a row, %v a rewrite", commit,
			o.peak>>20, o.live>>20, float64(o.follows)/float64(10*len(o.frames))*100,
			time.Since(begin)/time.Duration(10*len(o.frames)))
		if limit := o.live*3/2 + 64<<20; o.peak > limit {
			t.Errorf("seed %d: file of %d bytes, limit %d", seed, o.peak, limit)
		}
	}
}

// A small store stays small however often one page of it is rewritten.
func TestAllocatorSmallStore(t *testing.T) {
	a, err := newAllocator(4096, nil)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	o := &overwriter{allocator: a, r: rand.New(rand.NewPCG(seed, 0)), frames: make([]extent, 4), commit: 1}
	for range 10000 {
		o.rewrite(o.r.IntN(len(o.frames)))
	}
	if limit := int64(4096 + 3*4*12000); o.peak > limit {
		t.Errorf("seed %d: 4 frames of at most 12000 bytes grew the file to %d bytes, limit %d", seed, o.peak, limit)
	}
}

// A large gap is filled from its front in one row, before small ones and before
// the file grows.
func TestAllocatorFillsLargeGap(t *testing.T) {
	var used []extent
	for i := range int64(1000) { // small gaps of 4000 bytes
		used = append(used, extent{4096 + i*8000, 4000})
	}
	gap := extent{16 << 20, 1 << 20}
	used = append(used, extent{gap.end(), 4096})
	used = append(used, extent{used[999].end(), gap.off - used[999].end()})
	a, err := newAllocator(4096, used)
	if err != nil {
		t.Fatal(err)
	}
	for off := gap.off; off+4000 <= gap.end(); off += 4000 {
		if got := a.alloc(4000); got != off {
			t.Fatalf("allocation at %#x, want %#x", got, off)
		}
	}
}

func BenchmarkAllocator(b *testing.B) {
	a, err := newAllocator(4096, nil)
	if err != nil {
		b.Fatal(err)
	}
	o := &overwriter{allocator: a, r: rand.New(rand.NewPCG(1, 0)), frames: make([]extent, 65536), commit: 256}
	for range 10 * len(o.frames) {
		o.rewrite(o.r.IntN(len(o.frames)))
	}
	b.ReportAllocs()
	for b.Loop() {
		o.rewrite(o.r.IntN(len(o.frames)))
	}
}

func BenchmarkAllocatorLoad(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 0))
	used := make([]extent, 1_000_000)
	off := int64(4096)
	for i := range used {
		used[i] = extent{off, 3000 + r.Int64N(1000)*8}
		off = used[i].end() + r.Int64N(2)*r.Int64N(1000)*8
	}
	r.Shuffle(len(used), func(i, j int) { used[i], used[j] = used[j], used[i] })
	mixed := slices.Clone(used)
	for b.Loop() {
		b.StopTimer()
		copy(used, mixed)
		b.StartTimer()
		if _, err := newAllocator(4096, used); err != nil {
			b.Fatal(err)
		}
	}
}
