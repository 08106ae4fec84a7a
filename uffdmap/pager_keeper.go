package uffdmap

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A keeper sees to it that a pager has a standby, which holds all that the pager
// does.
type keeper struct {
	p        *pager
	tells    chan tell
	open     []tell        // taken, and not answered by a standby yet
	patience time.Duration // bounds the wait for a standby's answer
}

// A tell is a message for the standby. done is closed when the standby, or its
// successor, knows it.
type tell struct {
	m    message
	done chan struct{}
}

// An heir is a standby as its pager sees it.
type heir struct {
	*conn
	pidfd   int
	answers chan message // closed when it has ended
	ready   bool         // it may succeed the pager
}

// standbyPatience is how long a standby's answer is waited for at first. One that is
// stopped is of no use and is replaced; one that is merely slow must not be. So its
// successor gets twice the time, up to maxPatience: on a machine that is so busy that
// none begins in time, another would only make it busier.
var standbyPatience = 30 * time.Second

const maxPatience = 5 * time.Minute

func newKeeper(p *pager) *keeper {
	return &keeper{p: p, tells: make(chan tell), patience: standbyPatience}
}

// tell returns when the standby knows m, of whose mapping only the number is
// needed: the standby gets what the pager serves.
func (k *keeper) tell(m message) {
	t := tell{m, make(chan struct{})}
	k.tells <- t
	<-t.done
}

// run replaces the standby whenever it ends.
func (k *keeper) run() {
	const pause = 100 * time.Millisecond // between attempts to start one
	said := false
	for {
		h, err := k.start()
		if err != nil {
			if !said {
				log.printf("no standby: %v", err)
			}
			said = true
			k.wait(pause)
			continue
		}
		said = false
		left, lived := k.keep(h)
		h.end()
		for _, t := range left {
			k.postpone(t)
		}
		if !lived {
			k.wait(pause)
		}
	}
}

// postpone has t told to a standby before that may succeed the pager. Nobody waits so
// long for a drop: until then a standby serves nothing.
func (k *keeper) postpone(t tell) {
	if t.m.Verb == verbDrop {
		close(t.done)
		t.done = make(chan struct{})
	}
	k.open = append(k.open, t)
}

// wait lets open tells, and those of a while, pass: without a standby nobody needs to
// know.
func (k *keeper) wait(d time.Duration) {
	for _, t := range k.open {
		close(t.done)
	}
	k.open = nil
	timer := time.After(d)
	for {
		select {
		case t := <-k.tells:
			close(t.done)
		case <-timer:
			return
		}
	}
}

// start starts a standby and tells the program of it, which reaps those that have
// ended then, and one that could not begin.
func (k *keeper) start() (*heir, error) {
	mine, its, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(its)
	h := &heir{conn: &conn{fd: mine}, answers: make(chan message)}
	_, h.pidfd, err = startHelper("/proc/self/exe", roleStandby, unix.Stdin, k.p.program.fd, its)
	k.p.sayHello()
	if err != nil {
		unix.Close(mine)
		return nil, err
	}
	go h.listen()
	return h, nil
}

// listen passes on what the standby says until it ends.
func (h *heir) listen() {
	defer close(h.answers)
	for {
		m, err := h.receive()
		if err != nil {
			return
		}
		h.answers <- m
	}
}

// end ends the standby, so that it never succeeds a pager that it knows too
// little of.
func (h *heir) end() {
	unix.PidfdSendSignal(h.pidfd, unix.SIGKILL, nil, 0)
	unix.Shutdown(h.fd, unix.SHUT_RDWR)
	for range h.answers {
	}
	unix.Close(h.fd)
	unix.Close(h.pidfd)
}

// keep tells the standby h everything and then whatever comes up, until it ends.
// It returns what it did not answer, and whether it ever knew everything.
func (k *keeper) keep(h *heir) (left []tell, lived bool) {
	if !k.introduce(h) {
		k.patience = min(2*k.patience, maxPatience)
		return nil, false
	}
	k.patience = standbyPatience
	for {
		select {
		case t := <-k.tells:
			if !k.pass(h, t.m) {
				return []tell{t}, true
			}
			close(t.done)
		case <-h.answers: // Nothing was asked: the standby has ended.
			return nil, true
		}
	}
}

// introduce tells a new standby who its pager and its program are and all that
// they share, and says whether it lives.
func (k *keeper) introduce(h *heir) bool {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	defer unix.Close(self)
	err = h.send(message{Verb: verbWelcome, Version: protocol, fds: []int{k.p.programEnd, self}})
	if err != nil {
		return false
	}
	// It has begun when it answers to this, a drop of nothing: who detaches does not wait
	// for that, though nothing else may be left to tell.
	if !k.pass(h, message{Verb: verbDrop}) {
		return false
	}
	k.p.mu.RLock()
	var ids []int32
	for id := range k.p.served {
		ids = append(ids, id)
	}
	k.p.mu.RUnlock()
	for _, id := range ids {
		if !k.pass(h, message{Verb: verbAdopt, Spec: &spec{ID: id}}) {
			return false
		}
	}
	for ; len(k.open) > 0; k.open = k.open[1:] {
		if !k.pass(h, k.open[0].m) {
			return false
		}
		close(k.open[0].done)
	}
	h.ready = true
	return k.pass(h, message{Verb: verbReady})
}

// pass sends m to the standby, waits for its answer and says whether one came.
func (k *keeper) pass(h *heir, m message) bool {
	if m.Verb != verbAdopt {
		return h.send(m) == nil && k.answered(h)
	}
	s := k.p.find(m.Spec.ID)
	if s == nil || !s.enter() {
		return true // Detached meanwhile.
	}
	m.Spec, m.fds = &s.spec, s.fds
	err := h.send(m)
	s.leave() // Who detaches it does not wait for the answer.
	return err == nil && k.answered(h)
}

// answered waits for the standby's answer and says whether one came.
func (k *keeper) answered(h *heir) bool {
	tells := k.tells
	if h.ready {
		tells = nil
	}
	for late := time.After(k.patience); ; {
		select {
		case _, ok := <-h.answers:
			return ok
		case <-late:
			return false
		case t := <-tells:
			k.postpone(t)
		}
	}
}
