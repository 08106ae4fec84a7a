package uffdmap

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A pager is the process that owns the pages of a program's served mappings.
type pager struct {
	program    *conn
	programEnd int // pidfd
	pool       *pool
	keeper     *keeper
	repeats    repeats

	mu     sync.RWMutex // guards served
	served map[int32]*served
}

func newPager(program *conn, programEnd int) *pager {
	p := &pager{program: program, programEnd: programEnd, served: map[int32]*served{}}
	p.keeper = newKeeper(p)
	return p
}

// runPager is the life of a program's first pager. The standby that it starts, and
// all that follow, are confined as it is.
func runPager() error {
	setName(rolePager)
	program := &conn{fd: fdProgram}
	first, err := program.receive()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return err
	}
	if first.Verb != verbWelcome || first.Version != protocol || len(first.fds) != 1 {
		return fmt.Errorf("program begins with %q of protocol %d, want %q of %d", first.Verb, first.Version, verbWelcome, protocol)
	}
	if err := confine(first.Folders); err != nil {
		// What sets up sandboxes itself may leave no room for another.
		log.printf("%v", err)
	}
	return newPager(program, first.fds[0]).succeed(nil)
}

// succeed goes on where another pager left off, with what that one served, nil if there
// was none, and returns when the program has ended.
func (p *pager) succeed(held map[int32]holding) error {
	go p.watchProgram()
	var err error
	if p.pool, err = newPool(p); err != nil {
		return err
	}
	if err := p.inheritAll(held); err != nil {
		return err
	}
	if held != nil {
		p.repeats.expect()
		go p.sayHello() // Who waits for an answer need not wait for a standby.
	}
	go p.keeper.run()
	return p.obeyProgram()
}

// inheritAll serves what another pager has served. A store that does not answer keeps
// nobody waiting who touches pages of another.
func (p *pager) inheritAll(held map[int32]holding) error {
	opened := make(chan error, len(held))
	for _, h := range held {
		go func() {
			m, err := openServed(h, true)
			if err == nil {
				p.inherit(m)
			}
			opened <- err
		}()
	}
	for range held {
		if err := <-opened; err != nil {
			return err // Only for want of memory or descriptors.
		}
	}
	return nil
}

// sayHello tells the program who the pager is.
func (p *pager) sayHello() {
	p.program.send(message{Verb: verbHello, Version: protocol, Pager: os.Getpid()})
}

// watchProgram ends this process when the program ends, should a stray copy of
// the program's end of the connection keep that open, or a store not answer that is
// being opened.
func (p *pager) watchProgram() {
	fds := []unix.PollFd{{Fd: int32(p.programEnd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err == nil {
			exit(0)
		}
	}
}

// obeyProgram serves the program's requests until it hangs up.
func (p *pager) obeyProgram() error {
	for {
		m, err := p.program.receive()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !p.repeats.isNew(m) {
			closeAll(m.fds)
			continue
		}
		switch m.Verb {
		case verbAttach:
			// In order, so that a request about the mapping finds it.
			err := p.attach(m)
			go func() {
				if err == nil {
					p.keeper.tell(message{Verb: verbAdopt, Spec: m.Spec})
				}
				p.reply(m, err)
			}()
		case verbDetach:
			go func() { p.reply(m, p.detach(m.ID)) }()
		default: // It may wait for its store as long as that takes, but for no other.
			go func() { p.reply(m, p.request(m)) }()
		}
	}
}

// reply answers request m. A program that is gone needs no answer.
func (p *pager) reply(m message, err error) {
	p.program.send(message{Verb: verbReply, Seq: m.Seq, Err: newWireError(err)})
}

// attach begins to serve a mapping. The program asks again when a pager dies in
// the middle, so it may be served already.
func (p *pager) attach(m message) error {
	if p.find(m.ID) != nil {
		closeAll(m.fds)
		return nil
	}
	if m.Spec == nil || len(m.fds) != m.Spec.fdCount() {
		closeAll(m.fds) // The kernel left out those for which this process has no room.
		return fmt.Errorf("attach came with %d descriptors: %w", len(m.fds), unix.EMFILE)
	}
	s, err := openServed(holding{*m.Spec, m.fds}, m.Again)
	if err != nil {
		return err
	}
	if m.Again { // Somebody may wait for its pages, for a SIGBUS at least.
		p.inherit(s)
		return nil
	}
	if err := s.sound(); err != nil {
		s.close()
		return err
	}
	if err := p.add(s); err != nil {
		p.forget(s.ID)
		s.close()
		return err
	}
	return nil
}

// inherit is add for a mapping that a dead pager has served.
func (p *pager) inherit(m *served) {
	m.table.head.takeovers.Add(1)
	go m.findResident()
	if err := p.add(m); err != nil {
		log.printf("serve %s: %v", m.Path, err)
	}
}

// add begins to answer the faults of m. Those that a dead pager had read and not
// answered are delivered again.
func (p *pager) add(m *served) error {
	m.pool = p.pool
	p.mu.Lock()
	p.served[m.ID] = m
	p.mu.Unlock()
	err := p.pool.watch(m)
	m.uffd.Wake(uintptr(m.Base), uintptr(m.Len))
	return err
}

// forget makes mapping id one that is not served and returns it, nil if it was none.
func (p *pager) forget(id int32) *served {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.served[id]
	delete(p.served, id)
	return m
}

func (p *pager) find(id int32) *served {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.served[id]
}

// detach stops serving a mapping, here and in the standby, and closes its store.
func (p *pager) detach(id int32) error {
	var err error
	if m := p.forget(id); m != nil {
		p.pool.unwatch(m)
		err = m.close()
	}
	p.keeper.tell(message{Verb: verbDrop, ID: id})
	return err
}

// request does what m asks of one mapping.
func (p *pager) request(m message) error {
	s := p.find(m.ID)
	if s == nil || !s.enter() {
		closeAll(m.fds)
		return os.ErrClosed
	}
	defer s.leave()
	switch m.Verb {
	case verbSync:
		return s.sync()
	case verbPrefetch:
		return s.prefetch(m.Ranges)
	case verbProtect:
		return s.protect()
	case verbSnapshot:
		return s.takeSnapshot(m.Snap, m.fds)
	case verbRecall:
		return s.readSnapshot(m.Snap, m.Ranges[0])
	case verbForget:
		s.dropSnapshot(m.Snap)
		return nil
	}
	return fmt.Errorf("pager does not know %q", m.Verb)
}
