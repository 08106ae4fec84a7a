package uffdmap

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A keeper sees to it that a pager has a standby, which holds all that the pager
// does.
type keeper struct {
	p     *pager
	tells chan tell
}

// A tell is a message for the standby. done is closed when the standby, or its
// successor, knows it.
type tell struct {
	m    message
	done chan struct{}
}

func newKeeper(p *pager) *keeper { return &keeper{p: p, tells: make(chan tell)} }

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
	var open []tell
	for {
		c, err := k.start()
		if err != nil {
			fmt.Fprintf(os.Stderr, "lazyfs pager: no standby: %v\n", err)
			open = k.wait(open, pause)
			continue
		}
		var lived bool
		open, lived = k.keep(c, open)
		unix.Close(c.fd)
		if !lived {
			open = k.wait(open, pause)
		}
	}
}

// wait lets tells pass for a while: without a standby nobody needs to know.
func (k *keeper) wait(open []tell, d time.Duration) []tell {
	for _, t := range open {
		close(t.done)
	}
	timer := time.After(d)
	for {
		select {
		case t := <-k.tells:
			close(t.done)
		case <-timer:
			return nil
		}
	}
}

// start starts a standby and tells the program of it.
func (k *keeper) start() (*conn, error) {
	mine, its, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(its)
	_, err = startHelper("/proc/self/exe", roleStandby, k.p.program.fd, its)
	if err != nil {
		unix.Close(mine)
		return nil, err
	}
	k.p.program.send(message{Verb: verbHello, Version: protocol, Pager: os.Getpid()})
	return &conn{fd: mine}, nil
}

// keep tells the standby at c everything and then whatever comes up, until it
// ends. It returns the tells that it did not answer, and whether it ever knew
// everything.
func (k *keeper) keep(c *conn, open []tell) (left []tell, lived bool) {
	answers := make(chan message)
	go func() {
		defer close(answers)
		for {
			m, err := c.receive()
			if err != nil {
				return
			}
			answers <- m
		}
	}()
	if !k.introduce(c, answers) {
		return open, false
	}
	for _, t := range open {
		if !k.pass(c, answers, t.m) {
			return open, true
		}
		close(t.done)
		open = open[1:]
	}
	for {
		select {
		case t := <-k.tells:
			if !k.pass(c, answers, t.m) {
				return []tell{t}, true
			}
			close(t.done)
		case <-answers: // Nothing was asked: the standby has ended.
			return nil, true
		}
	}
}

// introduce tells a new standby who its pager and its program are and all that
// they share, and says whether it lives.
func (k *keeper) introduce(c *conn, answers <-chan message) bool {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	defer unix.Close(self)
	err = c.send(message{Verb: verbWelcome, Version: protocol, fds: []int{k.p.programEnd, self}})
	if err != nil {
		return false
	}
	k.p.mu.RLock()
	var ids []int32
	for id := range k.p.served {
		ids = append(ids, id)
	}
	k.p.mu.RUnlock()
	for _, id := range ids {
		if !k.pass(c, answers, message{Verb: verbAdopt, Spec: &spec{ID: id}}) {
			return false
		}
	}
	return k.pass(c, answers, message{Verb: verbReady})
}

// pass sends m to the standby, waits for its answer and says whether one came.
func (k *keeper) pass(c *conn, answers <-chan message, m message) bool {
	if m.Verb == verbAdopt {
		s := k.p.find(m.Spec.ID)
		if s == nil || !s.enter() {
			return true // Detached meanwhile.
		}
		defer s.leave()
		m.Spec, m.fds = &s.spec, s.fds
	}
	if c.send(m) != nil {
		return false
	}
	_, ok := <-answers
	return ok
}
