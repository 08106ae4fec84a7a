package uffdmap

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lookTime is how long a worker that has answered a fault looks for the next
	// one before it sleeps. Who is woken on another core of a virtual machine may
	// take half of it to go on. Much longer would keep from the core what can use
	// it while it seldom finds a fault.
	lookTime = 50 * time.Microsecond

	// maxSkips bounds how often looking is left out after it did not pay.
	maxSkips = 63
)

// An attention is how the workers of a pool hear of faults: idle ones wait in one
// epoll instance, and each fault wakes one of them. A worker that has answered
// the only fault there was may look for the next one itself, because that often
// comes sooner than a thread can be woken. Meanwhile the faults of that mapping
// wake nobody.
type attention struct {
	epoll int
	look  time.Duration // lookTime, or 0 with one core: look once

	// quiet is the mapping whose faults wake nobody, if any. It is changed with mu
	// held, and its worker does nothing that could last.
	quiet atomic.Pointer[served]
	mu    sync.Mutex // guards what follows; taken after all others
	skips int        // how often not to look
	last  int        // what skips was when looking did not pay
}

func newAttention() (*attention, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	a := &attention{epoll: epoll}
	if runtime.NumCPU() > 1 {
		a.look = lookTime
	}
	return a, nil
}

// loud wakes one idle worker for each fault, and once if there were some before.
const loud = unix.EPOLLIN | unix.EPOLLET

func (a *attention) control(op, fd int, id int32, events uint32) error {
	return unix.EpollCtl(a.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: id})
}

// add makes wait return id when fd is ready.
func (a *attention) add(fd int, id int32) error {
	if err := a.control(unix.EPOLL_CTL_ADD, fd, id, loud); err != nil {
		return fmt.Errorf("watch for faults: %w", err)
	}
	return nil
}

// remove undoes add for m.
func (a *attention) remove(m *served) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.control(unix.EPOLL_CTL_DEL, m.uffd.Fd(), m.ID, 0)
	a.quiet.CompareAndSwap(m, nil)
}

// wait waits until something is ready, and returns the id it was added with.
func (a *attention) wait() (id int32, err error) {
	// No more than one: others take the rest.
	var ready [1]unix.EpollEvent
	for {
		n, err := unix.EpollWait(a.epoll, ready[:], -1)
		if err != nil && err != unix.EINTR {
			return 0, fmt.Errorf("wait for faults: %w", err)
		}
		if n > 0 {
			return ready[0].Fd, nil
		}
	}
}

// hush lets faults of m wake nobody until listen, if that has paid lately. The
// caller looks for them, has entered m, and calls listen before it does anything
// that could last.
func (a *attention) hush(m *served) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if quiet := a.quiet.Load(); quiet != nil {
		return quiet == m
	}
	if a.skips > 0 {
		a.skips--
		return false
	}
	// It fails when m has been removed.
	if a.control(unix.EPOLL_CTL_MOD, m.uffd.Fd(), m.ID, 0) != nil {
		return false
	}
	a.quiet.Store(m)
	return true
}

// listen ends what hush began, whoever did.
func (a *attention) listen(m *served) {
	if a.quiet.Load() != m {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.quiet.Load() == m {
		a.control(unix.EPOLL_CTL_MOD, m.uffd.Fd(), m.ID, loud)
		a.quiet.Store(nil)
	}
}

// alert wakes an idle worker for what still waits of m, which the caller has entered.
func (a *attention) alert(m *served) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.control(unix.EPOLL_CTL_MOD, m.uffd.Fd(), m.ID, loud)
	a.quiet.CompareAndSwap(m, nil)
}

// paid says whether the one who looked found a fault.
func (a *attention) paid(yes bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if yes {
		a.last = 0
		return
	}
	a.skips = a.last
	a.last = min(2*a.last+1, maxSkips)
}
