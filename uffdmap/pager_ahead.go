package uffdmap

import (
	"sync"
	"time"
)

const (
	// maxWindow bounds what is filled at one fault, in bytes.
	maxWindow = 2 << 20

	// maxAheadTime bounds the time that is spent on frames nobody has touched yet.
	maxAheadTime = 10 * time.Millisecond
)

// An ahead decides how many frames to fill at a fault: one where touches are
// random, twice as many each time where they follow each other.
type ahead struct {
	mu     sync.Mutex // guards what follows
	start  int64      // frames [start, next) were filled by the last faults
	next   int64
	window int64 // frames
	max    int64 // frames
}

// reset makes the next fault a random one, and max the bound of the window.
func (a *ahead) reset(max int64) { *a = ahead{start: -1, next: -1, window: 1, max: max} }

// touched says how many frames to fill from frame n on, which was touched.
func (a *ahead) touched(n int64) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case n == a.next:
		a.window = max(1, min(2*a.window, a.max))
	case n >= a.start && n < a.next:
		// The program has caught up with a filling under way.
		return 1
	default:
		a.window = 1
	}
	a.start, a.next = n, n+a.window
	return a.window
}

// stopped says that the filling ended before frame n.
func (a *ahead) stopped(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > a.start && n < a.next {
		a.next = n
	}
}
