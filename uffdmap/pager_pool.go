package uffdmap

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A pool is the threads of a pager that answer faults. Any of them takes any
// fault of any mapping; one that is idle costs nothing.
type pool struct {
	p         *pager
	attention *attention
	help      int     // eventfd: there is something in the queue for an idle worker
	share     int     // workers that may load for one mapping
	cores     coreSet // of those that fill ahead

	mu       sync.Mutex // guards what follows
	workers  []*worker
	loading  int     // workers that load frames
	loaded   int     // touches whose load has ended
	queue    []touch // absent pages that wait for a worker that may load, each once
	inQueue  map[touch]struct{}
	aheads   []aheadJob // that want another worker
	checking bool       // a call of relieve is due
	queued   atomic.Int32
}

// A touch is a fault on an absent page, to be answered by loading its frame.
type touch struct {
	m     *served
	page  int64 // offset in the mapping
	write bool
}

// An aheadJob is a stream that is worth more than one worker.
type aheadJob struct {
	m *served
	s *stream
}

// helpID stands for the eventfd where attention tells a mapping's number.
const helpID = -1

func newPool(p *pager) (*pool, error) {
	help, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	a, err := newAttention()
	if err != nil {
		return nil, err
	}
	if err := a.add(help, helpID); err != nil {
		return nil, err
	}
	pl := &pool{p: p, attention: a, help: help, share: minWorkers() - 2, inQueue: map[touch]struct{}{}}
	for range minWorkers() {
		w, err := newWorker(pl)
		if err != nil {
			return nil, err
		}
		pl.workers = append(pl.workers, w)
	}
	for _, w := range pl.workers {
		go w.run()
	}
	return pl, nil
}

// minWorkers is the number of workers that a pool begins with.
func minWorkers() int { return max(4, runtime.NumCPU()+2) }

// watch makes the workers answer the faults of m, unwatch ends that.
func (pl *pool) watch(m *served) error { return pl.attention.add(m.uffd.Fd(), m.ID) }
func (pl *pool) unwatch(m *served)     { pl.attention.remove(m) }

// queueLoads queues the touches of absent pages in faults, but none that waits
// already: each signal to a waiting thread makes it touch its page again, and a
// collector that wants to stop many of them sends signals faster than pages come.
func (pl *pool) queueLoads(m *served, faults []fault) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for _, f := range faults {
		t := touch{m, f.page, f.write}
		if _, waits := pl.inQueue[t]; !waits {
			pl.inQueue[t] = struct{}{}
			pl.queue = append(pl.queue, t)
		}
	}
	pl.queued.Store(int32(len(pl.queue)))
}

// stuckTime is how long a touch waits, while no load ends, until another worker is
// started for it.
const stuckTime = 20 * time.Millisecond

// full says that there is a touch that no worker may answer, because as many load
// as may. The caller holds mu.
func (pl *pool) full() bool { return pl.loading >= len(pl.workers)-1 && pl.oldest() >= 0 }

// checkStuck sees to it that whoever waits does not wait for stores that don't
// answer. The caller holds mu.
func (pl *pool) checkStuck() {
	if pl.full() && !pl.checking {
		pl.checking = true
		loaded := pl.loaded
		time.AfterFunc(stuckTime, func() { pl.relieve(loaded) })
	}
}

// relieve starts another worker if no load has ended since so many had.
func (pl *pool) relieve(loaded int) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.checking = false
	if pl.full() && pl.loaded == loaded {
		w, err := newWorker(pl)
		if err != nil {
			log.printf("%v", err)
			return
		}
		pl.workers = append(pl.workers, w)
		go w.run()
		pl.callHelp()
	}
	pl.checkStuck()
}

// startLoad begins to load the next touch of the queue, for a worker that does
// not load yet. One worker never loads, so that a write to a protected frame
// never waits for a store: then, or with nothing to load, it says false.
func (pl *pool) startLoad() (touch, bool) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.loading >= len(pl.workers)-1 {
		pl.checkStuck()
		return touch{}, false
	}
	t, ok := pl.pop()
	if ok {
		pl.loading++
	}
	return t, ok
}

// nextLoad ends the load done and begins that of the next touch in the queue, if
// there is one.
func (pl *pool) nextLoad(done touch) (touch, bool) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	done.m.loading--
	pl.loaded++
	t, ok := pl.pop()
	if !ok {
		pl.loading--
	}
	return t, ok
}

// oldest is where the oldest touch is in the queue whose mapping leaves a loading
// worker to others: its store may be stuck. It is negative if there is none. The
// caller holds mu.
func (pl *pool) oldest() int {
	return slices.IndexFunc(pl.queue, func(t touch) bool { return t.m.loading < pl.share })
}

// pop takes the oldest touch of the queue that may be answered. The caller holds mu.
func (pl *pool) pop() (touch, bool) {
	i := pl.oldest()
	if i < 0 {
		return touch{}, false
	}
	t := pl.queue[i]
	t.m.loading++
	pl.queue = slices.Delete(pl.queue, i, i+1)
	delete(pl.inQueue, t)
	pl.queued.Store(int32(len(pl.queue)))
	return t, true
}

// askAhead asks an idle worker to fill s too.
func (pl *pool) askAhead(m *served, s *stream) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	// A touch that nobody expected needs a worker that may load.
	job := aheadJob{m, s}
	if pl.loading >= len(pl.workers)-2 || slices.Contains(pl.aheads, job) {
		return
	}
	pl.aheads = append(pl.aheads, job)
	pl.callHelp()
}

// startAhead begins what was asked for, if anything, and endAhead ends it.
func (pl *pool) startAhead() (job aheadJob, ok bool) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	last := len(pl.aheads) - 1
	if last < 0 {
		return aheadJob{}, false
	}
	job, pl.aheads = pl.aheads[last], pl.aheads[:last]
	if last > 0 {
		pl.callHelp()
	}
	if pl.loading >= len(pl.workers)-2 {
		return aheadJob{}, false
	}
	pl.loading++
	return job, true
}

func (pl *pool) endAhead() {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.loading--
}

// callHelp wakes one idle worker.
func (pl *pool) callHelp() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(pl.help, one[:])
}
