package uffdmap

import (
	"slices"
	"testing"

	"lazyfs/store"
)

// Only frames that are in memory and can't leave it are scanned as if no page were
// absent. A frame on its way in is not one of them, and Dirty is exact all the same.
func TestDirtyWhileFrameIsBusy(t *testing.T) {
	const frame, frames = 16 << 10, 3 * maxFill / (16 << 10)
	path := newStore(t, plainBytes(newRand(t), frames*frame), frame)
	v := openView(t, path, Options{Writable: true})
	edit := func(page int64) {
		s, err := v.Edit(page*store.PageSize, 1)
		must(t, "edit", err)
		s.Bytes()[0]++
		s.Release()
	}
	runs := func() (runs []bool) {
		for first := int64(0); first < frames; {
			next, resident := v.scannable(first, frames)
			runs, first = append(runs, resident), next
		}
		return runs
	}
	if got := runs(); !slices.Equal(got, []bool{false}) {
		t.Errorf("nothing resident: runs %v", got)
	}
	must(t, "prefetch", v.Prefetch(Range{0, maxFill}, Range{2 * maxFill, maxFill}))
	must(t, "prefetch", v.Prefetch(Range{maxFill, maxFill / 2}))
	if got := runs(); !slices.Equal(got, []bool{true, false, true}) {
		t.Errorf("some resident: runs %v", got)
	}
	must(t, "prefetch", v.Prefetch())
	if got := runs(); !slices.Equal(got, []bool{true}) {
		t.Errorf("all resident: runs %v", got)
	}
	const first, last = int64(5), int64(frames*frame/store.PageSize - 1)
	edit(first)
	edit(last)

	// As while another goroutine brings it in.
	const busy = 7
	must(t, "drop", v.drop(busy, 1))
	v.frames[busy].Store(frameBusy)
	if got := runs(); !slices.Equal(got, []bool{false, true}) {
		t.Errorf("one busy: runs %v", got)
	}
	if got, want := dirtyPages(v), []int64{first, last}; !slices.Equal(got, want) {
		t.Errorf("pages %d are dirty, want %d", got, want)
	}
	v.settle(busy, 0)
	v.giveBack(1)
	must(t, "sync", v.Sync())
	if got := dirtyPages(v); len(got) > 0 {
		t.Errorf("pages %d are dirty after a sync", got)
	}
}

// Under a limit a frame may leave at any time.
func TestDirtyUnderLimit(t *testing.T) {
	const size = 1 << 20
	v := openView(t, newStore(t, plainBytes(newRand(t), size), 16<<10), Options{Writable: true, MemoryLimit: 2 * size})
	must(t, "prefetch", v.Prefetch())
	if _, resident := v.scannable(0, v.frameCount()); resident {
		t.Error("frames that may be evicted count as resident for ever")
	}
}
