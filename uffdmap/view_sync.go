package uffdmap

import (
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"

	"lazyfs/store"
)

// Sync writes the dirty frames back to the store, on all cores, and makes them
// one commit that survives a power cut. It holds every write that was finished
// before Sync began. Frames that are written meanwhile may be stored half old,
// half new, and stay dirty.
//
// When it fails the pages stay dirty and it may be called again. A mapping that
// is Private or read-only has nothing to sync.
func (v *Viewer) Sync() error {
	if err := v.enter(); err != nil {
		return err
	}
	defer v.leave()
	if err := v.sync(); err != nil {
		return fmt.Errorf("sync view of %s: %w", v.path, err)
	}
	return nil
}

func (v *Viewer) sync() error {
	if v.store == nil {
		return nil
	}
	v.syncing.Lock()
	defer v.syncing.Unlock()
	if err := v.collect(0, v.frameCount(), true); err != nil {
		return err
	}
	if err := v.writeBackAll(v.dirtyFrames()); err != nil {
		return err
	}
	spilled := v.spilled.take()
	if err := v.store.Sync(); err != nil {
		v.spilled.put(spilled)
		return err
	}
	return nil
}

// dirtyFrames lists the frames with a page in dirty, in order.
func (v *Viewer) dirtyFrames() []int64 {
	var frames []int64
	last := int64(-1)
	for w := range v.dirty.all() {
		for b := w.bits; b != 0; b &= b - 1 {
			page := w.i*64 + int64(bits.TrailingZeros64(b))
			if n := v.frameOf(page * store.PageSize); n != last {
				frames = append(frames, n)
				last = n
			}
		}
	}
	return frames
}

// writeBackAll writes frames back on all cores, and stops at the first error.
func (v *Viewer) writeBackAll(frames []int64) error {
	workers := min(runtime.GOMAXPROCS(0), len(frames))
	errs := make([]error, workers)
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(frames)) {
					return
				}
				if errs[w] = v.writeBackPinned(frames[i]); errs[w] != nil {
					next.Store(int64(len(frames)))
				}
			}
		})
	}
	wg.Wait()
	return firstOf(errs)
}

func (v *Viewer) writeBackPinned(n int64) error {
	if !v.pinResident(n) {
		return nil // Evicted meanwhile, and written back for that.
	}
	defer v.unpin(n, n+1, pinOne)
	return v.writeBack(n)
}

// writeBack gives frame n, which is pinned or claimed, to the store, without a
// commit, and moves its pages from dirty to spilled.
func (v *Viewer) writeBack(n int64) error {
	buf, err := v.scratch.get()
	if err != nil {
		return err
	}
	defer v.scratch.put(buf)
	first, end := v.pagesOf(n)
	// Taken out before the bytes are read: a write in between is in the bytes,
	// and reported again.
	pages := v.dirty.cut(first, end)
	edited := !v.tracked() && v.frames[n].Load()&editMask != 0
	// A compressor must not see bytes that change under it.
	plain := buf.b[:min(v.frameSize(), v.size-n<<v.frameShift)]
	copy(plain, v.bytesOf(n, 1))
	if err := v.store.WriteFrame(n, plain); err != nil {
		v.dirty.paste(first, pages)
		return fmt.Errorf("write back frame %d: %w", n, err)
	}
	v.spilled.paste(first, pages)
	if edited {
		v.dirty.paste(first, pages) // Nobody tells what its holder still writes.
	}
	v.count.writtenBack.Add(1)
	return nil
}

// pagesOf returns the first page of frame n, and the one behind its last.
func (v *Viewer) pagesOf(n int64) (first, end int64) {
	per := v.frameSize() / store.PageSize
	return n * per, (n + 1) * per
}
