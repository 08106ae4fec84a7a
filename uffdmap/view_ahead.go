package uffdmap

import "sync/atomic"

// A readAhead notices that a mapping is walked through.
type readAhead struct {
	next   atomic.Int64 // the frame behind those brought in last, -1 at first
	window atomic.Int64 // frames to bring in at once
}

// maxAhead bounds the window, in bytes.
const maxAhead = 2 << 20

// stop returns the frame at which a fill that begins at n and has to reach end
// should stop. The window doubles as long as each fill begins where the last one
// ended, and closes as soon as one does not.
func (r *readAhead) stop(n, end int64, shift uint8) int64 {
	if n != r.next.Load() {
		r.window.Store(0)
		return end
	}
	w := min(max(2*r.window.Load(), 2*(end-n)), maxAhead>>shift)
	r.window.Store(w)
	return max(end, n+w)
}
