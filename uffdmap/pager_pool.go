package uffdmap

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A pool is the threads of a pager that answer faults. Any of them takes any
// fault of any mapping; one that is idle costs nothing.
//
// Each waits on an epoll instance of its own in which every userfaultfd is
// registered as exclusive: the kernel wakes one idle worker for a fault, and
// always the same one while that keeps up.
type pool struct {
	p       *pager
	workers []*worker
	help    int // eventfd: there is something in the queue for an idle worker

	mu      sync.Mutex // guards what follows
	loading int        // workers that load frames
	queue   []touch    // absent pages that wait for a worker that may load
	aheads  []aheadJob // that want another worker
	queued  atomic.Int32
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

// helpID stands for the eventfd where epoll tells a mapping's number.
const helpID = -1

func newPool(p *pager) (*pool, error) {
	help, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	pl := &pool{p: p, help: help}
	for range max(4, runtime.NumCPU()+2) {
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

// watch makes the workers answer the faults of m, unwatch ends that.
func (pl *pool) watch(m *served) {
	for _, w := range pl.workers {
		w.add(m.uffd.Fd(), m.ID)
	}
}

func (pl *pool) unwatch(m *served) {
	for _, w := range pl.workers {
		unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, m.uffd.Fd(), nil)
	}
}

// queueLoads queues the touches of absent pages in faults.
func (pl *pool) queueLoads(m *served, faults []fault) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for _, f := range faults {
		pl.queue = append(pl.queue, touch{m, f.page, f.write})
	}
	pl.queued.Store(int32(len(pl.queue)))
}

// startLoad begins to load the next touch of the queue, for a worker that does
// not load yet. One worker never loads, so that a write to a protected frame
// never waits for a store: then, or with nothing to load, it says false.
func (pl *pool) startLoad() (touch, bool) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.loading >= len(pl.workers)-1 {
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
	t, ok := pl.pop()
	if !ok {
		pl.loading--
	}
	return t, ok
}

// pop takes the oldest touch of the queue whose mapping leaves a loading worker to
// others: its store may be stuck. The caller holds mu.
func (pl *pool) pop() (touch, bool) {
	share := len(pl.workers) - 2
	i := slices.IndexFunc(pl.queue, func(t touch) bool { return t.m.loading < share })
	if i < 0 {
		return touch{}, false
	}
	t := pl.queue[i]
	t.m.loading++
	pl.queue = slices.Delete(pl.queue, i, i+1)
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
