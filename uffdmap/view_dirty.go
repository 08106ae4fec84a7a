package uffdmap

import (
	"fmt"
	"iter"
	"math/bits"
	"sync"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// A scanner asks the kernel which pages were written.
type scanner struct {
	// mu makes one step of what the kernel is asked and what is then added to
	// dirty: who scans next would find a page clean that is in neither.
	mu      sync.Mutex
	regions [256]uffd.Region // used under mu
}

// collect adds the pages of the frames from first on and below end that the
// kernel knows to be written to dirty, and with rearm makes the kernel watch
// them anew. Where the kernel does not track writes it does nothing.
func (v *Viewer) collect(first, end int64, rearm bool) error {
	if !v.tracked() {
		return nil
	}
	for first < end {
		next, resident := v.scannable(first, end)
		scan := uffd.Scan{
			Start: v.mem.addr + uintptr(first<<v.frameShift),
			End:   v.mem.addr + uintptr(next<<v.frameShift),
			Flags: uffd.ScanCheckWPAsync,
			Mask:  uffd.PageWritten, Return: uffd.PageWritten,
		}
		if !resident {
			// An absent page looks written; its presence tells it apart. To ask
			// for it takes the kernel three times as long.
			scan.AnyOf = uffd.PagePresent | uffd.PageSwapped
		}
		if rearm {
			scan.Flags |= uffd.ScanWPMatching
		}
		for scan.Start < scan.End {
			if err := v.scan(&scan); err != nil {
				return fmt.Errorf("scan for written pages: %w", err)
			}
		}
		first = next
	}
	return nil
}

// scannable returns up to where, from frame first on and below end, all frames are
// in memory and stay there, or else up to where to take them for absent.
func (v *Viewer) scannable(first, end int64) (next int64, resident bool) {
	// Looking at many frames of which few are resident does not pay.
	if v.limit > 0 || v.resident.Load() < v.size/2 {
		return end, false
	}
	const block = int64(maxFill)
	for next = first; next < end; {
		stop := min(next+max(block>>v.frameShift, 1), end)
		all := v.allResident(next, stop)
		if next > first && all != resident {
			break
		}
		next, resident = stop, all
	}
	return next, resident
}

// allResident says whether the frames from first on and below end are in memory.
func (v *Viewer) allResident(first, end int64) bool {
	for i := range v.frames[first:end] {
		if v.frames[first+int64(i)].Load()&(frameResident|frameBusy) != frameResident {
			return false
		}
	}
	return true
}

// scan does one scan, as far as it gets, and moves s.Start there.
func (v *Viewer) scan(s *uffd.Scan) error {
	v.scanner.mu.Lock()
	defer v.scanner.mu.Unlock()
	n, stopped, err := uffd.PagemapScan(v.pagemap, *s, v.scanner.regions[:])
	if err != nil {
		return err
	}
	for _, r := range v.scanner.regions[:n] {
		v.addWritten(int64(r.Start-v.mem.addr)/store.PageSize, int64(r.End-v.mem.addr)/store.PageSize)
	}
	s.Start = stopped
	return nil
}

// addWritten adds pages to dirty, unless their frame is absent.
func (v *Viewer) addWritten(first, end int64) {
	for first < end {
		n := v.frameOf(first * store.PageSize)
		_, next := v.pagesOf(n)
		next = min(next, end)
		if v.frames[n].Load()&(frameResident|frameBusy) != 0 {
			v.dirty.add(first, next)
		}
		first = next
	}
}

// Dirty lists the ranges that were written since the last Sync, in order, whole
// pages but for the store's end. Where the kernel does not track writes
// (Options say when) that is all of every Edit. It is a picture of the moment
// when the loop begins. What a Sync under way has taken is not in it, and is dirty
// again should that fail.
func (v *Viewer) Dirty() iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for _, r := range v.dirtyRanges() {
			if !yield(r) {
				return
			}
		}
	}
}

func (v *Viewer) dirtyRanges() []Range {
	if v.enter() != nil {
		return nil
	}
	defer v.leave()
	if !v.editable {
		return nil
	}
	if err := v.collect(0, v.frameCount(), false); err != nil {
		return []Range{{0, v.size}} // What is not known to be clean is dirty.
	}
	var all []Range
	for w := range unionOf(&v.dirty, &v.spilled) {
		for b := w.bits; b != 0; {
			low := bits.TrailingZeros64(b)
			run := bits.TrailingZeros64(^(b >> low))
			all = appendPages(all, w.i*64+int64(low), int64(run))
			if low+run == 64 {
				break
			}
			b &= ^uint64(0) << (low + run)
		}
	}
	if n := len(all); n > 0 {
		all[n-1].Len = min(all[n-1].Len, v.size-all[n-1].Off)
	}
	return all
}

// appendPages adds n pages from first on to the ranges, which lie before them.
func appendPages(all []Range, first, n int64) []Range {
	r := Range{first * store.PageSize, n * store.PageSize}
	if last := len(all) - 1; last >= 0 && all[last].End() == r.Off {
		all[last].Len += r.Len
		return all
	}
	return append(all, r)
}

// Stats returns the figures of the mapping. Dirty costs a walk over what is
// resident, if the mapping can be written.
func (v *Viewer) Stats() Stats {
	s := Stats{
		Faults:      v.count.faults.Load(),
		Frames:      v.count.frames.Load(),
		ZeroFrames:  v.count.zeros.Load(),
		Ahead:       v.count.ahead.Load(),
		Damaged:     v.count.damaged.Load(),
		Evicted:     v.count.evicted.Load(),
		WrittenBack: v.count.writtenBack.Load(),
		Resident:    v.resident.Load(),
	}
	for _, r := range v.dirtyRanges() {
		s.Dirty += r.Len
	}
	return s
}
