package uffdmap

import "sync"

// A lockSet locks frames by their numbers, each for itself: who reads a frame from
// a slow store keeps nobody from another.
type lockSet struct {
	asked func(n int64) // called when frame n, which was asked for, is free

	mu      sync.Mutex // guards what follows
	freed   *sync.Cond
	held    map[int64]bool // by the frames that are locked: somebody has asked for it
	waiting int
}

func newLockSet(asked func(n int64)) *lockSet {
	l := &lockSet{asked: asked, held: map[int64]bool{}}
	l.freed = sync.NewCond(&l.mu)
	return l
}

func (l *lockSet) lock(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.take(n) {
		l.waiting++
		l.freed.Wait()
		l.waiting--
	}
}

// tryLock locks frame n unless somebody holds it.
func (l *lockSet) tryLock(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take(n)
}

// tryLockRun locks the frames from n on and below end, up to the first one that
// somebody holds, and returns where they end.
func (l *lockSet) tryLockRun(n, end int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n < end && l.take(n) {
		n++
	}
	return n
}

// lockOrAsk locks frame n, or has asked called when it is free.
func (l *lockSet) lockOrAsk(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.take(n) {
		return true
	}
	l.held[n] = true
	return false
}

// take is tryLock for a caller that holds mu.
func (l *lockSet) take(n int64) bool {
	if _, taken := l.held[n]; taken {
		return false
	}
	l.held[n] = false
	return true
}

func (l *lockSet) unlock(n int64) { l.unlockRun(n, n+1) }

// unlockRun unlocks the frames from n on and below end.
func (l *lockSet) unlockRun(n, end int64) {
	for ; n < end; n++ {
		asked := false
		if n, asked = l.free(n, end); asked {
			l.asked(n)
		}
	}
}

// free unlocks the frames from n on and below end, up to the first one that
// somebody has asked for, which it returns.
func (l *lockSet) free(n, end int64) (last int64, asked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting > 0 {
		l.freed.Broadcast()
	}
	for ; n < end; n++ {
		asked = l.held[n]
		delete(l.held, n)
		if asked {
			return n, true
		}
	}
	return n, false
}
