package uffdmap

import (
	"iter"

	"golang.org/x/sys/unix"
)

// Dirty yields what was written since the last Sync, in whole frames: a write
// makes its frame dirty before it takes place. Nothing is yielded after Close.
func (m *Mapping) Dirty() iter.Seq[Range] {
	return m.ranges(m.nextRun(func(t *table, word int64) iter.Seq[int64] {
		return t.union(t.dirty, t.syncing, word)
	}))
}

// Written yields what was written since the last Protect, or since Map if there
// was none, in whole frames.
func (m *Mapping) Written() iter.Seq[Range] {
	return m.ranges(m.nextRun(func(t *table, word int64) iter.Seq[int64] { return t.union(t.written, nil, word) }))
}

// Resident yields what is in memory, to the page.
func (m *Mapping) Resident() iter.Seq[Range] { return m.ranges(m.nextResident) }

// ranges yields what next finds, from offset 0 on, until there is no more or the
// mapping is closed. The loop's body may call all methods of m.
func (m *Mapping) ranges(next func(off int64) (Range, bool)) iter.Seq[Range] {
	step := func(off int64) (Range, bool) {
		m.mu.RLock()
		defer m.mu.RUnlock()
		if m.closed || off >= m.spec.Size {
			return Range{}, false
		}
		return next(off)
	}
	return func(yield func(Range) bool) {
		for off := int64(0); ; {
			r, ok := step(off)
			if !ok || !yield(r) {
				return
			}
			off = r.End()
		}
	}
}

// nextResident is the next range that is in memory. The caller holds mu.
func (m *Mapping) nextResident(off int64) (Range, bool) {
	for {
		data, err := unix.Seek(m.memory, off, unix.SEEK_DATA)
		if err != nil || data >= m.spec.Size {
			return Range{}, false
		}
		hole, err := unix.Seek(m.memory, data, unix.SEEK_HOLE)
		if err != nil || hole > data { // Otherwise it was evicted in between.
			return Range{data, min(hole, m.spec.Size) - data}, err == nil
		}
	}
}

// nextRun finds the next run of frames of a set, which yields those from a word of its
// bitmaps on. The caller holds mu.
func (m *Mapping) nextRun(set func(t *table, word int64) iter.Seq[int64]) func(off int64) (Range, bool) {
	return func(off int64) (Range, bool) {
		if m.unnoted.Load() { // What is not known to be clean is dirty.
			return Range{off, m.spec.Size - off}, true
		}
		from := off / m.FrameSize
		first, end := int64(0), int64(0)
		for n := range set(m.table, from/64) {
			switch {
			case n < from:
				continue
			case end == 0:
				first = n
			case n > end:
				return m.rangeOf(first, end), true
			}
			end = n + 1
		}
		return m.rangeOf(first, end), end > 0
	}
}

// rangeOf is the bytes of the frames from first on and below end.
func (m *Mapping) rangeOf(first, end int64) Range {
	off := first * m.FrameSize
	return Range{off, min(end*m.FrameSize, m.spec.Size) - off}
}
