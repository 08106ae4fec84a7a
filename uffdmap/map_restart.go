package uffdmap

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// reap takes the exit status of the helpers in group that have ended, or with
// options 0 of all, waiting for their end. They are children of this process;
// somebody else may have reaped them.
func reap(group, options int) {
	for {
		pid, err := unix.Wait4(-group, nil, options, nil)
		if err != unix.EINTR && (err != nil || pid == 0) {
			return
		}
	}
}

// repeat sends all requests without an answer again, in order, but first what makes
// the others possible. A pager that can't be told them ends. The caller holds mu.
func (c *client) repeat() {
	open := slices.Sorted(maps.Keys(c.calls))
	for _, attach := range []bool{true, false} {
		for _, seq := range open {
			m := c.calls[seq].m
			if attach == (m.Verb == verbAttach) && c.conn.send(m) != nil {
				unix.Shutdown(c.conn.fd, unix.SHUT_RDWR)
				return
			}
		}
	}
	c.conn.send(message{Verb: verbRepeated, Pager: c.pager})
}

// maxStarts is how often new helpers are started until one has answered something, or has
// said hello, as one does that starts a standby: somebody may kill them all, for want of
// memory perhaps, the program may be short of descriptors for a while, or they may not
// work at all any more. The very first are started once.
const maxStarts = 6

// restart goes on after both helpers have ended, and says false if that was
// wanted or can't be. Where the program got here although its pages were not
// served, it has everything that new helpers need.
func (c *client) restart(cause error) bool {
	cause = fmt.Errorf("the helper ended before it was ready: %w", cause)
	c.mu.Lock()
	defer c.mu.Unlock()
	reap(c.group, 0)
	unix.Close(c.conn.fd)
	c.conn = nil
	for c.pause(); c.starts > 0 && !c.closing; c.pause() {
		c.starts--
		if cause = c.start(); cause == nil {
			c.attachAll()
			return true
		}
	}
	if !c.closing {
		c.fail(cause)
	}
	return false
}

// pause gives up mu for a while before helpers are started, the longer the more of them
// were started in vain. The caller holds mu.
func (c *client) pause() {
	if futile := maxStarts - c.starts; 0 < futile && futile < maxStarts {
		c.mu.Unlock()
		time.Sleep(10 * time.Millisecond << futile)
		c.mu.Lock()
	}
}

// attachAll has a pager that knows nothing serve all mappings, and asks it again what
// has no answer. The caller holds mu.
func (c *client) attachAll() {
	asked := map[int32]bool{} // to be attached, by what has no answer
	for _, call := range c.calls {
		if call.m.Verb == verbAttach {
			asked[call.m.ID] = true
		}
	}
	for _, m := range c.maps {
		if !asked[m.ID] {
			a := m.attachment()
			a.Again = true
			c.register(a) // A call, in case that the pager dies before its standby knows.
		}
	}
	c.repeat()
}

// fail gives err to everybody who waits and who will ask, and a fault to who touches what
// nobody will bring. The caller holds mu.
func (c *client) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%v", err)
	}
	c.failed = err
	for seq, call := range c.calls {
		delete(c.calls, seq)
		call.done <- err
	}
	for _, m := range c.maps {
		m.abandon()
	}
}
