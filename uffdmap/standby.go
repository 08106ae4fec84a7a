package uffdmap

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// A holding is a mapping's description with its descriptors, all that is needed
// to serve it.
type holding struct {
	spec spec
	fds  []int
}

// A standby holds what its pager holds, and waits for the pager's end.
type standby struct {
	program *conn
	pager   *conn
	held    map[int32]holding
	ready   bool // held is everything

	programEnd int // pidfds
	pagerEnd   int
}

// runStandby is the life of a standby: it returns when the program has ended,
// or as the pager that it has become.
func runStandby() error {
	setName("starting")
	s := &standby{
		program: &conn{fd: fdProgram},
		pager:   &conn{fd: fdPager},
		held:    map[int32]holding{},
	}
	first, err := s.pager.receive()
	if err == io.EOF {
		return nil // The pager died at once; the program sees it.
	}
	if err != nil {
		return err
	}
	if first.Verb != verbWelcome || first.Version != protocol || len(first.fds) != 2 {
		return fmt.Errorf("pager begins with %q of protocol %d, want %q of %d", first.Verb, first.Version, verbWelcome, protocol)
	}
	s.programEnd, s.pagerEnd = first.fds[0], first.fds[1]
	succeeds, err := s.wait()
	if err != nil || !succeeds {
		return err
	}
	unix.Close(s.pager.fd)
	unix.Close(s.pagerEnd)
	setName(rolePager)
	return newPager(s.program, s.programEnd).succeed(s.held)
}

// wait holds what the pager hands over until something ends, and says whether this
// process is to succeed the pager. One that was not told everything must not: the rest
// nobody would serve. When it ends too, the program starts new helpers.
func (s *standby) wait() (succeeds bool, err error) {
	fds := []unix.PollFd{
		{Fd: int32(s.pager.fd), Events: unix.POLLIN},
		{Fd: int32(s.pagerEnd), Events: unix.POLLIN},
		{Fd: int32(s.program.fd), Events: unix.POLLRDHUP},
		{Fd: int32(s.programEnd), Events: unix.POLLIN},
	}
	for {
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return false, fmt.Errorf("wait for the pager's end: %w", err)
		}
		if fds[2].Revents != 0 || fds[3].Revents != 0 {
			return false, nil
		}
		// What the pager sent before it died is taken first.
		if fds[0].Revents != 0 {
			if err := s.obey(); err == io.EOF {
				fds[0].Fd = -1 // Its end shows in its pidfd.
			} else if err != nil {
				return false, fmt.Errorf("standby: %w", err) // The pager starts another.
			}
			continue
		}
		if fds[1].Revents != 0 {
			return s.ready, nil
		}
	}
}

// obey does what the pager's next message says.
func (s *standby) obey() error {
	m, err := s.pager.receive()
	if err != nil {
		return err
	}
	switch m.Verb {
	case verbAdopt:
		if len(m.fds) != m.Spec.fdCount() {
			closeAll(m.fds)
			return fmt.Errorf("adopt %s: got %d descriptors, want %d", m.Spec.Path, len(m.fds), m.Spec.fdCount())
		}
		if _, ok := s.held[m.Spec.ID]; ok {
			closeAll(m.fds)
		} else {
			s.held[m.Spec.ID] = holding{*m.Spec, m.fds}
		}
	case verbDrop:
		if h, ok := s.held[m.ID]; ok {
			closeAll(h.fds)
			delete(s.held, m.ID)
		}
	case verbReady:
		s.ready = true
		setName(roleStandby)
	}
	// A pager that has died meanwhile needs no answer, but a successor.
	s.pager.send(message{Verb: verbReply})
	return nil
}
