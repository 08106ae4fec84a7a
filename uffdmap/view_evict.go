package uffdmap

import (
	"fmt"
	"sync"
)

// A viewEvictor knows which frames are in memory, if that is limited.
type viewEvictor struct {
	mu      sync.Mutex // guards what follows
	queue   evictQueue // resident frames
	working int        // frames that are being evicted
	done    sync.Cond  // working became less
	off     bool       // there is no limit
}

func (e *viewEvictor) init(v *Viewer) {
	e.done.L = &e.mu
	e.off = v.limit <= 0
}

// add makes n frames from first on, which are resident, known to the evictor.
func (e *viewEvictor) add(first, n int64) {
	if e.off {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range n {
		e.queue.add(first + i)
	}
}

// reserve makes room for n frames, by evicting others that nobody holds.
func (v *Viewer) reserve(n int64) error {
	want := n << v.frameShift
	for v.limit > 0 {
		have := v.resident.Load()
		if have+want <= v.limit {
			if v.resident.CompareAndSwap(have, have+want) {
				return nil
			}
			continue
		}
		victim, ok := v.claimVictim()
		if !ok {
			return fmt.Errorf("%w: no room for %d bytes more, %d of %d are pinned%s",
				ErrLimit, want, have, v.limit, v.unevictable())
		}
		if err := v.evict(victim); err != nil {
			// The store can't take the frame, for want of space perhaps. The
			// next Sync says so; until then memory has to hold it.
			break
		}
	}
	v.resident.Add(want)
	return nil
}

// unevictable explains what besides pins can fill the limit.
func (v *Viewer) unevictable() string {
	if v.editable && v.store == nil {
		return " or written and private"
	}
	return ""
}

// giveBack undoes reserve for n frames.
func (v *Viewer) giveBack(n int64) { v.resident.Add(-n << v.frameShift) }

// claimVictim claims a frame that nobody holds, one that has proven itself only if
// it was not used since it was last passed by. It returns false when there is none.
func (v *Viewer) claimVictim() (int64, bool) {
	e := &v.evictor
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		// Three times round: frames on probation that are held prove themselves,
		// and then that others were used is forgotten first.
		for range 3 * e.queue.len() {
			if n, proven := e.queue.next(); v.claimPassed(n, proven) {
				return n, true
			}
		}
		// Few on probation don't have their turn while there are others.
		for range e.queue.probation.len() {
			if n := e.queue.probation.pop(); v.claimPassed(n, false) {
				return n, true
			}
		}
		if e.working == 0 {
			return 0, false
		}
		e.done.Wait() // Others evict, for themselves; there may be enough for all.
	}
}

// claimPassed claims frame n, which the evictor passes by, if it may leave, and
// else keeps it. The caller holds the evictor's mu.
func (v *Viewer) claimPassed(n int64, proven bool) bool {
	word := &v.frames[n]
	w := word.Load()
	again := proven && w&frameUsed != 0
	if w&(pinMask|frameBusy) == 0 && !again && word.CompareAndSwap(w, frameBusy) {
		v.evictor.working++
		return true
	}
	word.And(^uint64(frameUsed))
	v.evictor.queue.keep(n, true)
	return false
}

// evict drops the claimed frame n from memory, after writing it back if it is
// dirty. A private frame that was written stays, and is no victim again.
func (v *Viewer) evict(n int64) error {
	keep, err := v.cleanForEviction(n)
	if err == nil && !keep {
		err = v.drop(n, 1)
	}
	switch {
	case err != nil:
		v.settle(n, frameResident)
		v.evictor.keep(n)
	case keep:
		v.settle(n, frameResident)
	default:
		v.forgetScanned(n)
		v.evictor.evicted(n)
		v.giveBack(1)
		v.count.evicted.Add(1)
		v.settle(n, 0)
	}
	v.evictor.finish()
	return err
}

// forgetScanned takes frame n, which has been written back and has left memory, out of
// dirty: a scan that came in between has found it written still.
func (v *Viewer) forgetScanned(n int64) {
	if !v.tracked() {
		return
	}
	v.scanner.mu.Lock()
	defer v.scanner.mu.Unlock()
	v.dirty.cut(v.pagesOf(n))
}

// evicted says that frame n has left memory, before it can come back.
func (e *viewEvictor) evicted(n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue.evicted(n)
}

// keep lets frame n, which is settled and has not left memory, be chosen again.
func (e *viewEvictor) keep(n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue.keep(n, true)
}

// finish ends an eviction.
func (e *viewEvictor) finish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.working--
	e.done.Broadcast()
}

// cleanForEviction writes frame n, which is claimed, back if it is dirty; keep
// says that it is and can't be.
func (v *Viewer) cleanForEviction(n int64) (keep bool, err error) {
	if !v.editable {
		return false, nil
	}
	if err := v.collect(n, n+1, false); err != nil {
		return false, err
	}
	switch first, end := v.pagesOf(n); {
	case !v.dirty.has(first, end):
		return false, nil
	case v.store == nil:
		return true, nil
	}
	return false, v.writeBack(n)
}
