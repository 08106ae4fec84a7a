package uffdmap

import (
	"sync"
	"time"
)

const (
	// maxWindow bounds what is filled at one fault, in bytes.
	maxWindow = 2 << 20

	// maxRun bounds what is installed at once ahead of the touches, in bytes:
	// large enough that a reader who has caught up does not wait often, small
	// enough that it does not wait long.
	maxRun = 128 << 10

	// maxAheadTime bounds the time that is spent on frames nobody has touched yet.
	maxAheadTime = 10 * time.Millisecond
)

// An ahead decides how many frames to fill at a fault: one where touches are
// random, twice as many each time where they follow each other.
type ahead struct {
	max int64 // bound of a window, in frames
	run int64 // frames that are installed at once

	mu      sync.Mutex // guards what follows
	streams [4]stream  // the last one used comes first
}

// A stream is a place where somebody reads on and on.
type stream struct {
	start, next int64 // the frames that its last fault filled; next is expected now
	window      int64 // their number
}

// reset forgets all streams of a mapping with frames of this size, of which no
// more than limit bytes may be filled at a fault.
func (a *ahead) reset(frameSize, limit int64) {
	a.max, a.run = max(1, limit/frameSize), max(1, maxRun/frameSize)
	for i := range a.streams {
		a.streams[i] = stream{start: -1, next: -1, window: 1}
	}
}

// touched says which frames [from, end) to fill besides n, which was touched. n
// may be one of them.
func (a *ahead) touched(n int64) (from, end int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, s := range a.streams {
		switch {
		// Copying functions begin with the last bytes of their range, so a touch
		// may come a little early.
		case n == s.next, s.window > 1 && n > s.next && n < s.next+a.run:
			s.window = min(2*s.window, a.max)
			s.start, s.next = s.next, max(s.next+s.window, n+1)
			a.use(i, s)
			return s.start, s.next
		case n >= s.start && n < s.next:
			// The program has caught up with a filling under way: share it.
			a.use(i, s)
			return n, min(n+a.run, s.next)
		}
	}
	a.use(len(a.streams)-1, stream{start: n, next: n + 1, window: 1})
	return n, n + 1
}

// use puts s, which was or replaces stream i, in front. The caller holds mu.
func (a *ahead) use(i int, s stream) {
	copy(a.streams[1:i+1], a.streams[:i])
	a.streams[0] = s
}

// stopped says that a filling up to end stopped before frame n.
func (a *ahead) stopped(n, end int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.streams {
		if s := &a.streams[i]; s.next == end && n > s.start {
			s.next = n
		}
	}
}
