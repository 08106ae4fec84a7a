package uffdmap

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
)

// newHeard makes an attention, and two mappings in it that become ready by fault.
func newHeard(t *testing.T) (a *attention, first, second *served) {
	a, err := newAttention()
	must(t, "make attention", err)
	t.Cleanup(func() { unix.Close(a.epoll) })
	for i, m := range []**served{&first, &second} {
		fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK)
		must(t, "make an eventfd", err)
		*m = &served{spec: spec{ID: int32(i)}, uffd: uffd.FromFd(fd, 0)}
		t.Cleanup(func() { (*m).uffd.Close() })
		must(t, "add", a.add(fd, int32(i)))
	}
	return a, first, second
}

func fault1(t *testing.T, m *served) {
	t.Helper()
	_, err := unix.Write(m.uffd.Fd(), binary.NativeEndian.AppendUint64(nil, 1))
	must(t, "write", err)
}

// wantReady wants a worker that is idle to be woken for the mapping with that id, or
// with -1 for none.
func wantReady(t *testing.T, a *attention, id int32) {
	t.Helper()
	var ready [2]unix.EpollEvent
	n, err := unix.EpollWait(a.epoll, ready[:], 0)
	must(t, "wait", err)
	switch {
	case n > 1 || n == 1 && ready[0].Fd != id:
		t.Errorf("%d are ready, the first is mapping %d, want mapping %d alone", n, ready[0].Fd, id)
	case n == 0 && id >= 0:
		t.Errorf("nothing is ready, want mapping %d", id)
	}
}

// A mapping that is hushed wakes nobody until listen, and then for what came
// meanwhile, too. Only one is hushed at a time.
func TestHush(t *testing.T) {
	a, first, second := newHeard(t)
	fault1(t, first)
	wantReady(t, a, 0)
	wantReady(t, a, -1)
	if !a.hush(first) || a.hush(second) {
		t.Fatal("want the first mapping hushed, and the second not")
	}
	fault1(t, first)
	wantReady(t, a, -1)
	fault1(t, second)
	wantReady(t, a, 1)
	a.listen(second)
	wantReady(t, a, -1)
	a.listen(first)
	wantReady(t, a, 0)
	fault1(t, first)
	wantReady(t, a, 0)
}

// A mapping that was removed while it was hushed leaves no trace.
func TestHushRemoved(t *testing.T) {
	a, first, second := newHeard(t)
	if !a.hush(first) {
		t.Fatal("the mapping was not hushed")
	}
	a.remove(first)
	if a.hush(first) {
		t.Error("the mapping was hushed after it was removed")
	}
	a.listen(first)
	fault1(t, first)
	wantReady(t, a, -1)
	if !a.hush(second) {
		t.Error("no other mapping can be hushed")
	}
}

// A mapping of whose faults the pager can't hear is refused: who touched it would wait
// for ever.
func TestAttachDeaf(t *testing.T) {
	h := newHolding(t, spec{})
	p := newPager(nil, -1)
	p.pool = &pool{attention: &attention{epoll: -1}}
	if err := p.attach(message{Spec: &h.spec, fds: h.fds}); !errors.Is(err, unix.EBADF) {
		t.Errorf("attach of what can't be watched: %v, want EBADF", err)
	}
	if p.find(h.spec.ID) != nil {
		t.Error("what was refused is served")
	}
}

// The more often it does not pay to look, the rarer it is tried; once it pays, it
// is always.
func TestPaid(t *testing.T) {
	a, m, _ := newHeard(t)
	left := func() (n int) {
		for ; !a.hush(m); n++ {
		}
		a.listen(m)
		return n
	}
	for _, want := range []int{0, 1, 3, 7, 15, 31, 63, 63} {
		a.paid(false)
		if got := left(); got != want {
			t.Fatalf("looking is left out %d times, want %d", got, want)
		}
	}
	a.paid(true)
	a.paid(false)
	if got := left(); got != 0 {
		t.Errorf("looking is left out %d times after it paid, want 0", got)
	}
}
