package uffdmap

import (
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// A heardSource notes of each frame it reads whether faults of its mapping woke
// somebody meanwhile.
type heardSource struct {
	store.Source
	m     *served
	heard []bool
}

func (s *heardSource) ReadFrame(n int64, dst []byte) (bool, error) {
	s.heard = append(s.heard, s.m.pool.attention.quiet.Load() == nil)
	return s.Source.ReadFrame(n, dst)
}

// newHolding makes a mapping like s, and what is handed over of it to a pager.
func newHolding(t *testing.T, s spec) holding {
	s.ID, s.Path, s.Tracked = 1, pack(t, content(1<<20, 50), store.CreateOptions{}), true
	program := &Mapping{memory: -1, editable: true, spec: s}
	must(t, "build mapping", program.build())
	t.Cleanup(program.free)
	var fds []int
	for _, fd := range program.sendable() {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		must(t, "dup", err)
		fds = append(fds, d)
	}
	return holding{program.spec, fds}
}

// newLoneWorker makes a worker without a thread, and a mapping like s whose faults only
// it answers, when a test says so.
func newLoneWorker(t *testing.T, s spec) (*worker, *served, *heardSource) {
	m, err := openServed(newHolding(t, s), false)
	must(t, "open", err)
	a, err := newAttention()
	must(t, "make attention", err)
	help, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	must(t, "make an eventfd", err)
	pl := &pool{attention: a, help: help, share: 2, inQueue: map[touch]struct{}{}}
	w, err := newWorker(pl)
	must(t, "make worker", err)
	pl.workers = []*worker{w, w, w, w}
	t.Cleanup(func() {
		m.close()
		unix.Close(help)
		unix.Close(a.epoll)
		freeScratch(w.scratch)
	})
	m.pool = pl
	must(t, "watch", pl.watch(m))
	source := &heardSource{Source: m.source, m: m}
	m.source = source
	return w, m, source
}

// answers makes w answer faults of these kinds, each in the frame of that number.
func (w *worker) answers(t *testing.T, m *served, flags uffd.FaultFlags, frames ...int64) {
	t.Helper()
	if !m.enter() {
		t.Fatal("the mapping is closed")
	}
	for i, n := range frames {
		w.events[i] = uffd.Event{Kind: uffd.EventFault, Flags: flags, Addr: m.addr(n * m.FrameSize)}
	}
	w.answerSome(m, len(frames))
}

// A worker looks for the next fault only when it has answered the only one, and
// not while it loads or while a snapshot may make it wait: others hear of faults
// then.
func TestLook(t *testing.T) {
	w, m, source := newLoneWorker(t, spec{})
	wantLooking := func(after string, want bool) {
		t.Helper()
		if got := m.pool.attention.quiet.Load() == m; got != want {
			t.Errorf("after %s: looking is %v, want %v", after, got, want)
		}
	}
	w.answers(t, m, 0, 3)
	wantLooking("a touch", true)
	w.answers(t, m, 0, 9)
	wantLooking("another touch", true)
	w.answers(t, m, 0, 20, 30)
	wantLooking("two touches", false)
	w.answers(t, m, 0, 40)
	w.answers(t, m, 0, 41)
	wantLooking("touches in sequence", false)
	w.answers(t, m, uffd.FaultWP|uffd.FaultWrite, 3)
	wantLooking("a write", true)
	m.snapshots = map[int32]*snapshot{1: {saved: make(bitmap, 1)}}
	m.snapshots[1].saved.set(9)
	w.answers(t, m, uffd.FaultWP|uffd.FaultWrite, 9)
	wantLooking("a write while there is a snapshot", false)
	m.snapshots = nil
	w.answers(t, m, 0, 15)
	wantLooking("one more touch", true)
	m.lifting.Lock()
	lifted := make(chan struct{})
	go func() {
		w.answers(t, m, uffd.FaultWP|uffd.FaultWrite, 15)
		close(lifted)
	}()
	err := await("others hear of faults while a snapshot is taken", func() bool {
		return m.pool.attention.quiet.Load() == nil
	})
	m.lifting.Unlock()
	<-lifted
	must(t, "wait", err)
	wantLooking("a write beside a snapshot", true)
	m.Limit = m.Size / 2
	must(t, "fill memory", unix.Fallocate(m.memory, 0, 0, m.Size))
	m.makeRoom(w.scratch)
	wantLooking("an eviction", false)
	m.Limit = 0
	if len(source.heard) < 6 {
		t.Errorf("%d frames were read, want 6 at least", len(source.heard))
	}
	for i, heard := range source.heard {
		if !heard {
			t.Errorf("nobody heard of faults during read %d", i)
		}
	}
}
