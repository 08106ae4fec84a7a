package store

import (
	"cmp"
	"slices"

	"github.com/tidwall/btree"
)

// fill moves frames that lie behind goal into gaps below it.
func (c *compactor) fill(goal int64) error {
	tail, err := c.tail(goal)
	if err != nil {
		return err
	}
	gaps := c.gaps(0, goal)
	leaveNodes(gaps, tail)
	f := newFiller(tail, gaps)
	for _, g := range gaps {
		f.fill(g)
	}
	return c.moveAll(f.plan, 0)
}

// leaveNodes takes room off large gaps for the leaves of the index that moving
// tail changes, but half of each gap at most.
func leaveNodes(gaps []extent, tail []frameEntry) {
	leaves := map[int64]bool{}
	for _, f := range tail {
		leaves[f.number>>fanoutBits] = true
	}
	room := int64(len(leaves)+maxDepth)*nodeRoom + logBlockLen
	for i := range gaps {
		if g := &gaps[i]; g.len >= runBytes {
			n := min(room, g.len/2)
			g.len -= n
			room -= n
		}
	}
}

// gaps lists the free extents from offset from on and below to.
func (c *compactor) gaps(from, to int64) []extent {
	c.s.mu.RLock()
	defer c.s.mu.RUnlock()
	var gaps []extent
	c.s.space.holes(0, func(e extent) bool {
		if e.off >= from && e.off < to {
			gaps = append(gaps, extent{e.off, min(e.len, to-e.off)})
		}
		return e.off < to
	})
	return gaps
}

// tail lists the frames that end behind goal, the last first, maxTail of them.
func (c *compactor) tail(goal int64) ([]frameEntry, error) {
	var tail []frameEntry
	last := func(a, b frameEntry) int { return cmp.Compare(b.entry.off(), a.entry.off()) }
	err := c.frames(0, func(n int64, e entry) bool {
		if e.extent().end() <= goal {
			return true
		}
		tail = append(tail, frameEntry{n, e})
		if len(tail) == 2*maxTail {
			slices.SortFunc(tail, last)
			tail = tail[:maxTail]
			goal = tail[maxTail-1].entry.off()
		}
		return true
	})
	slices.SortFunc(tail, last)
	return tail[:min(len(tail), maxTail)], err
}

// largeGap is the length from which on a gap is filled with frames that follow each
// other.
const largeGap = runBytes / 2

// A filler chooses frames for gaps: for large gaps the last of the file, in order
// of their numbers, for small gaps the largest that fits.
type filler struct {
	tail  []frameEntry // run of them by number, the others by offset, the last first
	run   int          // how many are meant for large gaps
	next  int          // those of the run before it are taken
	taken []bool
	sizes btree.Map[uint64, bool] // length/8<<32 | position in tail
	plan  []move
}

// newFiller chooses from tail, which it reorders.
func newFiller(tail []frameEntry, gaps []extent) *filler {
	f := &filler{tail: tail, taken: make([]bool, len(tail))}
	var room int64
	for _, g := range gaps {
		if g.len >= largeGap {
			room += g.len
		}
	}
	for f.run < len(tail) && room >= tail[f.run].entry.extent().len {
		room -= tail[f.run].entry.extent().len
		f.run++
	}
	slices.SortFunc(tail[:f.run], func(a, b frameEntry) int { return cmp.Compare(a.number, b.number) })
	for i := range tail {
		f.sizes.Set(f.key(i), true)
	}
	return f
}

func (f *filler) key(i int) uint64 {
	return uint64(f.tail[i].entry.extent().len)/unit<<32 | uint64(len(f.tail)-i)
}

func (f *filler) fill(g extent) {
	large := g.len >= largeGap
	for {
		i := f.pick(g.len, large)
		if i < 0 {
			return
		}
		f.taken[i] = true
		f.sizes.Delete(f.key(i))
		m := move{f.tail[i], g.off}
		f.plan = append(f.plan, m)
		g = extent{g.off + m.len(), g.len - m.len()}
	}
}

// pick returns the position of a frame for room bytes, -1 when there is none.
func (f *filler) pick(room int64, large bool) int {
	for f.next < f.run && f.taken[f.next] {
		f.next++
	}
	if large && f.next < f.run && f.tail[f.next].entry.extent().len <= room {
		return f.next
	}
	found := -1
	f.sizes.Descend(uint64(room)/unit<<32|1<<32-1, func(key uint64, _ bool) bool {
		found = len(f.tail) - int(key&(1<<32-1))
		return false
	})
	return found
}

// openWindow makes a large gap of the next stretch below the goal whose free
// space lies in many small ones: its frames move behind the end, from where the
// next round takes them back. It reports whether there was such a stretch.
func (c *compactor) openWindow(l layout) (bool, error) {
	w, ok := c.nextWindow(l)
	// Once more, as long as that brings something, or when the last windows left more
	// free than there was: what moved behind the end was not all taken back.
	if !ok && c.sweeps < maxSweeps && (l.free < c.free/4*3 || l.free > c.free) {
		c.swept, c.free = 0, l.free
		c.sweeps++
		w, ok = c.nextWindow(l)
	}
	if !ok {
		return false, nil
	}
	var moves []move
	err := c.frames(0, func(n int64, e entry) bool {
		if w.overlaps(e.extent()) {
			moves = append(moves, move{frameEntry{n, e}, toEnd})
		}
		return true
	})
	if err != nil {
		return false, err
	}
	if err := c.moveAll(moves, 0); err != nil {
		return false, err
	}
	c.window = w
	_, err = c.checkpoint(l.goal)
	return true, err
}

// nextWindow finds the next stretch with more free bytes than slack allows.
func (c *compactor) nextWindow(l layout) (extent, bool) {
	size := max(minWindow, l.end/windowShare)
	gaps := c.gaps(c.swept, l.goal)
	var free int64
	last := 0
	for i, g := range gaps {
		w := extent{g.off, min(size, l.goal-g.off)}
		for last < len(gaps) && gaps[last].off < w.end() {
			free += gaps[last].len
			last++
		}
		if free > w.len/(2*slackShare) && last-i > 1 {
			c.swept = w.end()
			return w, true
		}
		free -= g.len
	}
	return extent{}, false
}
