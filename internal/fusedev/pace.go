package fusedev

import "sync/atomic"

const (
	// crowdStart is how many requests in a row another one has to wait for before more
	// loops read.
	crowdStart = 5

	// paceLasts is for how many requests what was noticed counts.
	paceLasts = 16
)

// A pace is how requests come: one after the other unless it was noticed otherwise.
type pace struct {
	crowd atomic.Int64 // for so many more requests, they come faster than one loop answers
	slow  atomic.Int64 // for so many more requests, they wait for one that takes long
}

func (p *pace) isCrowd() { p.crowd.Store(paceLasts) }

func (p *pace) isSlow() {
	p.slow.Store(paceLasts)
	p.crowd.Store(paceLasts)
}

// crowded says whether several loops should read.
func (p *pace) crowded() bool { return p.crowd.Load() > 0 }

// passes counts a request, and says whether another loop should read before it is
// answered.
func (p *pace) passes() bool {
	if p.crowd.Load() > 0 {
		p.crowd.Add(-1)
	}
	return p.slow.Load() > 0 && p.slow.Add(-1) >= 0
}
