package uffdmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
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
	queued  atomic.Int32
}

// A touch is a fault on an absent page, to be answered by loading its frame.
type touch struct {
	m     *served
	page  int64 // offset in the mapping
	write bool
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

// startLoad says whether the caller may load the frame of t now. Otherwise t is
// queued for another. One worker never loads, so that a write to a protected
// frame never waits for a store.
func (pl *pool) startLoad(t touch) bool {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.loading < len(pl.workers)-1 {
		pl.loading++
		return true
	}
	pl.push(t)
	return false
}

// push queues t. The caller holds mu.
func (pl *pool) push(t touch) {
	pl.queue = append(pl.queue, t)
	pl.queued.Store(int32(len(pl.queue)))
}

// pop takes the oldest touch of the queue. The caller holds mu.
func (pl *pool) pop() (touch, bool) {
	if len(pl.queue) == 0 {
		return touch{}, false
	}
	t := pl.queue[0]
	pl.queue = pl.queue[:copy(pl.queue, pl.queue[1:])]
	pl.queued.Store(int32(len(pl.queue)))
	return t, true
}

// nextLoad ends a load and begins that of the oldest touch in the queue, if
// there is one.
func (pl *pool) nextLoad() (touch, bool) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	t, ok := pl.pop()
	if !ok {
		pl.loading--
	}
	return t, ok
}

// takeLoad begins to load the oldest touch of the queue, for a worker that was
// idle.
func (pl *pool) takeLoad() (touch, bool) {
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

// callHelp wakes one idle worker.
func (pl *pool) callHelp() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(pl.help, one[:])
}

const maxEvents = 32

// A worker is one thread of a pool, with the memory it works in.
type worker struct {
	pool    *pool
	epoll   int
	ready   [16]unix.EpollEvent
	events  [maxEvents]uffd.Event
	faults  [maxEvents]fault
	scratch []byte // one frame of any store, outside the heap
}

func newWorker(pl *pool) (*worker, error) {
	w := &worker{pool: pl}
	var err error
	if w.scratch, err = newScratch(maxFrameSize); err != nil {
		return nil, err
	}
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	w.add(pl.help, helpID)
	return w, nil
}

func (w *worker) add(fd int, id int32) {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: id}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		fmt.Fprintf(os.Stderr, "lazyfs pager: watch descriptor %d: %v\n", fd, err)
	}
}

func (w *worker) run() {
	for {
		n, err := unix.EpollWait(w.epoll, w.ready[:], -1)
		if err != nil && err != unix.EINTR {
			fmt.Fprintf(os.Stderr, "lazyfs pager: wait for faults: %v\n", err)
			os.Exit(3) // The standby takes over.
		}
		for i := range max(n, 0) {
			id := w.ready[i].Fd
			if id == helpID {
				w.helpOut()
			} else if m := w.pool.p.find(id); m != nil {
				w.answer(m)
			}
		}
	}
}

// helpOut loads what is in the queue, beside those who filled it.
func (w *worker) helpOut() {
	var b [8]byte
	unix.Read(w.pool.help, b[:])
	if t, ok := w.pool.takeLoad(); ok {
		w.load(t)
	}
}

// answer answers the faults of m that wait.
func (w *worker) answer(m *served) {
	for {
		if !m.enter() {
			return
		}
		n, err := m.uffd.Read(w.events[:])
		if err != nil {
			if err != unix.EAGAIN && err != unix.EINTR && !errors.Is(err, os.ErrClosed) {
				fmt.Fprintf(os.Stderr, "lazyfs pager: read faults of %s: %v\n", m.Path, err)
			}
			m.leave()
			return
		}
		faults := w.sort(m, n)
		// Writes to protected frames first: they wait for no store.
		for len(faults) > 0 && faults[0].protected {
			m.lift(faults[0].page)
			faults = faults[1:]
		}
		m.leave()
		w.loadAll(m, faults)
		if n < len(w.events) {
			return
		}
	}
}

// loadAll answers touches of absent pages.
func (w *worker) loadAll(m *served, faults []fault) {
	if len(faults) > 1 && m.slow() {
		// Others share the work where that takes longer than to wake them.
		w.pool.mu.Lock()
		for _, f := range faults[1:] {
			w.pool.push(touch{m, f.page, f.write})
		}
		w.pool.mu.Unlock()
		faults = faults[:1]
	}
	for _, f := range faults {
		t := touch{m, f.page, f.write}
		if w.pool.startLoad(t) {
			w.load(t)
		}
	}
}

// load answers t and then whatever is in the queue.
func (w *worker) load(t touch) {
	for ok := true; ok; t, ok = w.pool.nextLoad() {
		if w.pool.queued.Load() > 0 {
			w.pool.callHelp()
		}
		if t.m.enter() {
			t.m.fill(w, t)
			t.m.leave()
		}
	}
}

// A fault is what one or more events ask for.
type fault struct {
	page      int64 // offset of the page in the mapping
	protected bool  // a write to a protected page; otherwise a touch of an absent one
	write     bool
}

// before orders faults: protected ones first, then by address, so that neighbours
// are loaded in the order in which they lie in the store.
func (f fault) before(g fault) bool {
	if f.protected != g.protected {
		return f.protected
	}
	return f.page < g.page
}

// sort turns the first n events into faults, in order, one for each frame.
func (w *worker) sort(m *served, n int) []fault {
	found := w.faults[:0]
	for _, e := range w.events[:n] {
		off := int64(e.Addr) - int64(m.Base)
		if e.Kind != uffd.EventFault || off < 0 || off >= m.Size {
			continue
		}
		f := fault{
			page:      off &^ (pageSize - 1),
			protected: e.Flags&uffd.FaultWP != 0,
			write:     e.Flags&uffd.FaultWrite != 0,
		}
		found = insert(found, f, m.FrameSize)
	}
	return found
}

// insert adds f to the sorted faults, or merges it with one of the same kind in
// the same frame.
func insert(faults []fault, f fault, frameSize int64) []fault {
	i := len(faults)
	for i > 0 && f.before(faults[i-1]) {
		i--
	}
	for _, j := range [2]int{i - 1, i} {
		if j < 0 || j >= len(faults) {
			continue
		}
		g := &faults[j]
		if g.protected == f.protected && g.page/frameSize == f.page/frameSize && g.write == f.write {
			return faults
		}
	}
	faults = append(faults, fault{})
	copy(faults[i+1:], faults[i:])
	faults[i] = f
	return faults
}

// newScratch makes memory for frames outside the heap, where the collector never
// looks and from where the kernel may copy at any time.
func newScratch(size int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("get %d bytes to work in: %w", size, err)
	}
	return b, nil
}

func freeScratch(b []byte) { unix.Munmap(b) }

// elapsed is the time since start, in nanoseconds.
func elapsed(start time.Time) int64 { return int64(time.Since(start)) }
