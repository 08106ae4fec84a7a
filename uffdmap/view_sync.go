package uffdmap

import (
	"fmt"
	"math/bits"
	"slices"

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
	v.reserve(0) // Evicts what the store had no room for, unless it is held.
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

// expectSync makes the store ready for a Sync, in the background and once.
func (v *Viewer) expectSync() {
	if v.store == nil {
		return
	}
	v.expect.Do(func() {
		go func() {
			if v.enter() == nil {
				defer v.leave()
				v.store.ExpectWrites() // The Sync meets its error again.
			}
		}()
	})
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

// backBytes is how many plain bytes of frames are given to a store together.
const backBytes = 512 << 10

// writeBackAll writes frames back on all cores, and stops at the first error.
func (v *Viewer) writeBackAll(frames []int64) error {
	together := int64(backBytes)
	if v.limit > 0 { // They are held meanwhile, and others need room.
		together = min(together, v.limit/16)
	}
	groups := slices.Collect(slices.Chunk(frames, int(max(together>>v.frameShift, 1))))
	return onAllCores(groups, v.writeBackGroup)
}

// writeBackGroup is writeBack for some frames that are not claimed.
func (v *Viewer) writeBackGroup(frames []int64) error {
	buf, err := v.scratch.get()
	if err != nil {
		return err
	}
	defer v.scratch.put(buf)
	w := v.store.NewFrameWriter()
	defer w.Close()
	v.passing.RLock()
	defer v.passing.RUnlock()
	v.handing.RLock()
	defer v.handing.RUnlock()
	taken := make([]takenFrame, 0, len(frames))
	for _, n := range frames {
		if !v.pinResident(n) {
			continue // Evicted meanwhile, and written back for that.
		}
		t, plain, e := v.takeFrame(buf, n)
		taken = append(taken, t)
		if err = e; err == nil {
			err = w.Add(n, plain)
		}
		if err != nil {
			break
		}
	}
	if e := w.Flush(); err == nil {
		err = e
	}
	for _, t := range taken {
		v.wroteBack(t, err)
		v.unpin(t.n, t.n+1, pinOne)
	}
	if err != nil {
		return fmt.Errorf("write back frames from %d on: %w", frames[0], err)
	}
	return nil
}

// writeBack gives frame n, which is claimed, to the store, without a commit, and
// moves its pages from dirty to spilled then: a Sync that begins meanwhile finds them
// dirty, and waits for the frame.
func (v *Viewer) writeBack(n int64) error {
	buf, err := v.scratch.get()
	if err != nil {
		return err
	}
	defer v.scratch.put(buf)
	plain, err := v.copyFrame(buf, n)
	if err == nil {
		err = v.store.WriteFrame(n, plain)
	}
	if err != nil {
		return fmt.Errorf("write back frame %d: %w", n, err)
	}
	first, end := v.pagesOf(n)
	v.spilled.paste(first, v.dirty.cut(first, end))
	v.count.writtenBack.Add(1)
	return nil
}

// A takenFrame is a frame on its way back to the store.
type takenFrame struct {
	n      int64
	pages  [4]uint64 // those that were dirty
	edited bool      // nobody tells what its holder still writes
}

// takeFrame copies frame n, which is pinned, to buf, and takes its pages out of
// dirty, also when it fails.
func (v *Viewer) takeFrame(buf memory, n int64) (t takenFrame, plain []byte, err error) {
	first, end := v.pagesOf(n)
	// Taken out before the bytes are read: a write in between is in the bytes,
	// and reported again.
	t = takenFrame{n: n, pages: v.dirty.cut(first, end)}
	t.edited = !v.tracked() && v.frames[n].Load()&editMask != 0
	plain, err = v.copyFrame(buf, n)
	return t, plain, err
}

// copyFrame copies frame n, which is pinned or claimed, to buf: a compressor must not
// see bytes that change under it.
func (v *Viewer) copyFrame(buf memory, n int64) (plain []byte, err error) {
	plain = buf.b[:min(v.frameSize(), v.size-n<<v.frameShift)]
	b := v.bytesOf(n, 1)
	_, err = v.copyRestoring(plain, b, b, v.restore)
	return plain, err
}

// wroteBack says that t is in the store, uncommitted, or why it is not.
func (v *Viewer) wroteBack(t takenFrame, err error) {
	first, _ := v.pagesOf(t.n)
	if err != nil {
		v.dirty.paste(first, t.pages)
		return
	}
	v.spilled.paste(first, t.pages)
	if t.edited {
		v.dirty.paste(first, t.pages)
	}
	v.count.writtenBack.Add(1)
}

// pagesOf returns the first page of frame n, and the one behind its last.
func (v *Viewer) pagesOf(n int64) (first, end int64) {
	per := v.frameSize() / store.PageSize
	return n * per, (n + 1) * per
}
