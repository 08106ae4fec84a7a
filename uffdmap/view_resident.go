package uffdmap

import "iter"

// Resident yields what is in memory, whole frames but for the store's end.
// Nothing is yielded after Close.
func (v *Viewer) Resident() iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for n := int64(0); ; {
			r, ok := v.nextResident(n)
			if !ok || !yield(r) {
				return
			}
			n = v.frameOf(r.End()-1) + 1
		}
	}
}

// nextResident is the first run of resident frames from frame n on.
func (v *Viewer) nextResident(n int64) (Range, bool) {
	if v.enter() != nil {
		return Range{}, false
	}
	defer v.leave()
	resident := func(n int64) bool { return n < v.frameCount() && v.frames[n].Load()&frameResident != 0 }
	for n < v.frameCount() && !resident(n) {
		n++
	}
	end := n
	for resident(end) {
		end++
	}
	off := n << v.frameShift
	return Range{off, min(end<<v.frameShift, v.size) - off}, end > n
}
