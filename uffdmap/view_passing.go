package uffdmap

import (
	"errors"
	"sync"
	"sync/atomic"
)

// passing is the calls that hold frames, or room for them, and wait for nobody
// who holds some: they let go soon, other than Spans. Who finds no room waits for
// one of them.
type passing struct {
	// word is how many calls are at it, in the bits of passingMask, and above
	// them how often one has let go.
	word atomic.Uint64

	waiters atomic.Int64
	mu      sync.Mutex // held by who waits, until changed, and by who wakes it
	changed sync.Cond
}

const (
	passingOne  = 1
	passingMask = 1<<28 - 1
	passedOne   = 1 << 28
)

func (p *passing) init() { p.changed.L = &p.mu }

// begin begins a call, which end ends, and returns how often one has let go.
func (p *passing) begin() uint64 { return p.word.Add(passingOne) / passedOne }

// end ends a call; letGo says that it may have left room.
func (p *passing) end(letGo bool) {
	change := ^uint64(passingOne - 1)
	if letGo {
		change += passedOne
	}
	p.word.Add(change)
	if p.waiters.Load() > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changed.Broadcast()
	}
}

// wait returns true when a call has let go since begin returned passed, and false
// when none is left that could.
func (p *passing) wait(passed uint64) bool {
	p.waiters.Add(1)
	defer p.waiters.Add(-1)
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch w := p.word.Load(); {
		case w/passedOne != passed:
			return true
		case w&passingMask == 0:
			return false
		}
		p.changed.Wait()
	}
}

// pass does a call. When that gives ErrLimit it holds nothing; pass does it again
// as long as others that pass let go meanwhile.
func (v *Viewer) pass(call func() error) error {
	if v.limit == 0 {
		return call()
	}
	for {
		passed, err := v.passOnce(call)
		if !errors.Is(err, ErrLimit) || !v.passing.wait(passed) {
			return err
		}
	}
}

func (v *Viewer) passOnce(call func() error) (passed uint64, err error) {
	passed = v.passing.begin()
	defer func() { v.passing.end(!errors.Is(err, ErrLimit)) }()
	return passed, call()
}
