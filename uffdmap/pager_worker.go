package uffdmap

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
)

const maxEvents = 32

// A worker is one thread of a pool, with the memory it works in.
type worker struct {
	pool    *pool
	events  [maxEvents]uffd.Event
	faults  [maxEvents]fault
	scratch []byte // one frame of any store, outside the heap

	only  *served // the mapping in which it answers the only fault that waits
	quiet *served // the mapping whose faults wake nobody because it looks for them
}

func newWorker(pl *pool) (*worker, error) {
	scratch, err := newScratch()
	if err != nil {
		return nil, err
	}
	return &worker{pool: pl, scratch: scratch}, nil
}

func (w *worker) run() {
	for {
		id, err := w.pool.attention.wait()
		if err != nil {
			log.printf("%v", err)
			exit(3) // The standby takes over.
		}
		if id == helpID {
			w.helpOut()
		} else if m := w.pool.p.find(id); m != nil {
			w.answer(m)
		}
	}
}

// helpOut loads what is in the queue, and fills ahead, beside those who asked for
// it.
func (w *worker) helpOut() {
	w.load()
	job, ok := w.pool.startAhead()
	if !ok {
		return
	}
	if job.m.enter() {
		job.m.fillAhead(w, job.s)
		job.m.leave()
	}
	w.pool.endAhead()
	w.load() // What came meanwhile and found too many at work.
}

// answer answers the faults of m that wait. When it has answered the only one, it
// looks for another for a while.
func (w *worker) answer(m *served) {
	a := w.pool.attention
	defer w.listen()
	var since time.Time
	for {
		n, err := w.read(m)
		switch {
		case n > 0:
			if w.quiet != nil {
				a.paid(true)
			}
			since = time.Time{}
			if n == len(w.events) { // There may be more, that nobody else was woken for.
				a.alert(m)
			}
			w.answerSome(m, n)
		case err != unix.EAGAIN || w.quiet == nil:
			return
		default:
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) >= a.look {
				a.paid(false)
				return
			}
		}
	}
}

// read reads faults of m. With some, it has entered m.
func (w *worker) read(m *served) (int, error) {
	if !m.enter() {
		return 0, os.ErrClosed
	}
	n, err := m.uffd.Read(w.events[:])
	if err != nil {
		m.leave()
		if err != unix.EAGAIN && !errors.Is(err, os.ErrClosed) {
			log.printf("read faults of %s: %v", m.Path, err)
		}
	}
	return n, err
}

// answerSome answers the first n events, and leaves m.
func (w *worker) answerSome(m *served, n int) {
	if w.only = nil; n == 1 {
		w.only = m
	}
	faults := w.sort(m, n)
	// Writes to protected frames first: they wait for no store.
	for len(faults) > 0 && faults[0].protected {
		m.lift(w, faults[0].page)
		faults = faults[1:]
	}
	m.leave()
	if len(faults) > 0 {
		w.pool.queueLoads(m, faults)
		w.load()
	}
	w.only = nil
}

// look makes the worker look for the next fault of m after this one, which it is
// about to let go on, unless others wait.
func (w *worker) look(m *served) {
	if w.only == m && w.pool.attention.hush(m) {
		w.quiet = m
	}
}

// listen ends look, before anything that could last.
func (w *worker) listen() {
	if w.quiet != nil {
		w.pool.attention.listen(w.quiet)
		w.quiet = nil
	}
}

// load answers what is in the queue, with the help of others where that is much.
func (w *worker) load() {
	for t, ok := w.pool.startLoad(); ok; t, ok = w.pool.nextLoad(t) {
		w.listen()
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
	for _, g := range faults[max(i-1, 0):min(i+1, len(faults))] {
		if g.protected == f.protected && g.page/frameSize == f.page/frameSize && g.write == f.write {
			return faults
		}
	}
	return slices.Insert(faults, i, f)
}

// newScratch makes memory for a frame of any store outside the heap, where the
// collector never looks and from where the kernel may copy at any time.
func newScratch() ([]byte, error) {
	b, err := unix.Mmap(-1, 0, maxFrameSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("get %d bytes to work in: %w", maxFrameSize, err)
	}
	return b, nil
}

func freeScratch(b []byte) { unix.Munmap(b) }
