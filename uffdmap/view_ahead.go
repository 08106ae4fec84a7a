package uffdmap

import "sync"

// A readAhead notices that a mapping is walked through, in a few places at once.
type readAhead struct {
	mu    sync.Mutex // guards walks
	walks [4]walk    // the last one used comes first
}

// A walk is a place where fills follow each other.
type walk struct {
	first, next int64 // frames of its last fill; the next one is expected to begin at next
	window      int64 // frames to bring in at once
}

// maxAhead bounds the window, in bytes.
const maxAhead = 2 << 20

// stop returns the frame at which a fill that begins at n and has to reach end
// should stop. The window doubles as long as each fill begins where the last one
// ended, and closes as soon as one does not.
func (r *readAhead) stop(n, end int64, shift uint8) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, w := len(r.walks)-1, walk{}
	for k := range r.walks {
		if r.walks[k].next == n && n > 0 {
			i, w = k, r.walks[k]
			w.window = min(max(2*w.window, 2*(end-n)), maxAhead>>shift)
			break
		}
	}
	w.first, w.next = n, max(end, n+w.window)
	copy(r.walks[1:i+1], r.walks[:i])
	r.walks[0] = w
	return w.next
}

// stopped says that the fill that began at n ended at end.
func (r *readAhead) stopped(n, end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.walks {
		if r.walks[k].first == n {
			r.walks[k].next = end
			return
		}
	}
}
