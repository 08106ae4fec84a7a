package uffdmap

import (
	"runtime"
	"sync"
	"time"
)

const (
	// maxWindow bounds what is filled ahead of a touch, in bytes.
	maxWindow = 2 << 20

	// maxRun bounds what is installed at once, in bytes: large enough that a
	// reader who has caught up does not wait often, small enough that it does
	// not wait long.
	maxRun = 256 << 10

	// maxAheadTime bounds the time that a worker spends on frames nobody has
	// touched yet.
	maxAheadTime = 10 * time.Millisecond
)

// An ahead decides how many frames to fill at a touch: one where touches are
// random, twice as many each time where they follow each other.
type ahead struct {
	max int64 // bound of a window, in frames
	run int64 // frames that are installed at once

	mu      sync.Mutex // guards what follows
	streams [4]*stream // the last one used comes first
}

// A stream is a place where somebody reads on and on. Workers fill its frames in
// order, run by run, up to the end of its window.
type stream struct {
	start   int64 // the frame where its last window began
	next    int64 // the first frame that no worker has taken yet; expected to be touched
	end     int64 // of the window
	last    int64 // the frame that was touched last
	window  int64 // frames
	workers int   // that fill it
}

// reset forgets all streams of a mapping with frames of this size, of which no
// more than limit bytes may be filled ahead of a touch.
func (a *ahead) reset(frameSize, limit int64) {
	a.max, a.run = max(1, limit/frameSize), max(1, maxRun/frameSize)
	for i := range a.streams {
		a.streams[i] = &stream{start: -1, next: -1, end: -1, last: -1, window: 1}
	}
}

// touched says up to which frame to fill at once from n on, which was touched,
// and which stream to fill on, nil where touches are random.
func (a *ahead) touched(n int64) (end int64, on *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, s := range a.streams {
		switch {
		case n == s.last: // The same touch again, because a signal came.
			a.use(i)
			return n + 1, nil
		case n == s.next:
			a.grow(s, n)
			s.start, s.next = n, min(n+a.run, s.end)
			a.use(i)
			return s.next, s
		// Copying functions begin with the last bytes of their range, so a touch
		// may come a little early.
		case s.window > 1 && n > s.next && n < s.next+a.run:
			a.grow(s, n)
			a.use(i)
			return n + 1, s
		case n >= s.start && n < s.next:
			// The program has caught up with the workers. They go on before it.
			a.grow(s, n)
			a.use(i)
			return min(n+a.run, s.next), s
		}
	}
	last := len(a.streams) - 1
	s := a.streams[last]
	s.start, s.next, s.end, s.last, s.window = n, n+1, n+1, n, 1
	a.use(last)
	return n + 1, nil
}

// grow doubles the window of s, which was touched at n. The caller holds mu.
func (a *ahead) grow(s *stream, n int64) {
	s.last = n
	s.window = min(2*s.window, a.max)
	s.end = max(s.end, n+s.window)
	s.start = max(s.start, s.next-2*a.max)
}

// use puts stream i in front. The caller holds mu.
func (a *ahead) use(i int) {
	s := a.streams[i]
	copy(a.streams[1:i+1], a.streams[:i])
	a.streams[0] = s
}

// join makes the caller one of the workers that fill s, of which there is one for
// each core. It says whether there is something to do.
func (a *ahead) join(s *stream) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.next >= s.end || s.workers >= runtime.NumCPU() {
		return false
	}
	s.workers++
	return true
}

// leave undoes join.
func (a *ahead) leave(s *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.workers--
}

// take takes the next run of s for the caller to fill; more says that there is
// enough for another worker.
func (a *ahead) take(s *stream) (n, end int64, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = s.next
	s.next = max(n, min(n+a.run, s.end))
	return n, s.next, s.next < s.end && s.workers < runtime.NumCPU()
}
