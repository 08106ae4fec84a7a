package uffdmap

import "sync"

// A lockSet locks frames by their numbers, each for itself: who reads a frame from
// a slow store keeps nobody from another.
type lockSet struct {
	mu      sync.Mutex // guards what follows
	freed   *sync.Cond
	held    map[int64]struct{}
	waiting int
}

func newLockSet() *lockSet {
	l := &lockSet{held: map[int64]struct{}{}}
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

// take is tryLock for a caller that holds mu.
func (l *lockSet) take(n int64) bool {
	if _, taken := l.held[n]; taken {
		return false
	}
	l.held[n] = struct{}{}
	return true
}

func (l *lockSet) unlock(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, n)
	if l.waiting > 0 {
		l.freed.Broadcast()
	}
}
