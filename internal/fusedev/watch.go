package fusedev

import "time"

const (
	// patience is how long others wait for a loop that is at a request before another
	// one reads, at most twice that.
	patience = time.Millisecond

	// watchLasts is for how many times patience watch goes on without any request.
	watchLasts = 100
)

// stir has somebody watch the loops.
func (c *Conn) stir() {
	if !c.watching.Load() && c.watching.CompareAndSwap(false, true) {
		go c.watch()
	}
}

// watch has another loop read when one is at the same request for long, which may wait
// for what others ask for. It ends after a while without requests.
func (c *Conn) watch() {
	for quiet := 0; quiet < watchLasts; quiet++ {
		time.Sleep(patience)
		if c.takeOver(func(l *loop, turn uint64) bool {
			same := turn == l.seen
			if l.seen = turn; !same {
				quiet = 0
			}
			return same
		}) {
			quiet = 0
		}
	}
	c.unwatch()
}

// unwatch ends watch, unless a loop is at a request: one that came just now has not stirred
// anybody.
func (c *Conn) unwatch() {
	c.watching.Store(false)
	if c.takeOver(func(*loop, uint64) bool { return false }) {
		c.stir()
	}
}

// passOn has others read while the caller, who may be at a request, waits for the kernel,
// which may wait for another request.
func (c *Conn) passOn() {
	c.takeOver(func(*loop, uint64) bool { return true })
}

// takeOver has others read instead of the loops that are at a request and for which
// from, given the loop and its turn, says so. It returns whether there are any that are
// at a request.
func (c *Conn) takeOver(from func(l *loop, turn uint64) bool) (any bool) {
	c.mu.Lock()
	loops := c.loops
	c.mu.Unlock()
	for _, l := range loops {
		turn := l.turn.Load()
		taken := from(l, turn)
		if turn%2 == 0 {
			continue
		}
		any = true
		if taken && l.turn.CompareAndSwap(turn, turn+1) {
			c.leave()
		}
	}
	return any
}
