package uffdmap

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A client is the program's side of the connection to its helpers. All served
// mappings of stores in a program share one, and with it one pager; those of
// folders of page files share another, whose pager opens files.
//
// None of its goroutines is needed for a fault to be answered, nor for a dead
// pager to be succeeded: a program may be standing still, waiting for a page.
type client struct {
	folders bool
	users   int           // mappings; guarded by clients.mu
	ended   chan struct{} // closed when the last helper has hung up for good

	mu      sync.Mutex // guards what follows
	conn    *conn      // nil while there are no helpers; changed by listen alone, which reads it without mu
	pager   int        // pid of the pager last heard of
	group   int        // process group of all helpers of this connection
	starts  int        // how often new helpers may be started until one shows that it works
	closing bool
	failed  error // why there are no helpers
	lastSeq uint64
	lastID  int32
	calls   map[uint64]*call
	maps    map[int32]*Mapping
	lost    map[int32]error // why mappings are not served any more
}

// A call is a request without an answer yet.
type call struct {
	m    message
	done chan error // holds one; nobody need take it
}

// clients are the clients of this program, while there are mappings.
var clients struct {
	mu sync.Mutex       // guards what follows
	of map[bool]*client // by client.folders
}

// acquireClient gives the program's client for stores, or for folders, and starts
// its helpers if there are none, or none any more.
func acquireClient(folders bool) (*client, error) {
	clients.mu.Lock()
	defer clients.mu.Unlock()
	c := clients.of[folders]
	if c == nil || c.hasFailed() { // What it has mapped stays with it.
		var err error
		if c, err = newClient(folders); err != nil {
			return nil, err
		}
		if clients.of == nil {
			clients.of = map[bool]*client{}
		}
		clients.of[folders] = c
	}
	c.users++
	return c, nil
}

// releaseClient undoes acquireClient. The last one ends the helpers.
func releaseClient(c *client) {
	clients.mu.Lock()
	defer clients.mu.Unlock()
	c.users--
	if c.users > 0 {
		return
	}
	if clients.of[c.folders] == c {
		delete(clients.of, c.folders)
	}
	c.close()
}

// hasFailed says that c has no helpers and gets none.
func (c *client) hasFailed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed != nil
}

func newClient(folders bool) (*client, error) {
	c := &client{
		folders: folders,
		ended:   make(chan struct{}),
		calls:   map[uint64]*call{},
		maps:    map[int32]*Mapping{},
		lost:    map[int32]error{},
	}
	if err := c.start(); err != nil {
		return nil, err
	}
	go c.listen()
	return c, nil
}

// start starts a pager at a new connection. The caller holds mu, or is alone.
func (c *client) start() error {
	program, err := helperProgram()
	if err != nil {
		return err
	}
	mine, its, err := socketPair()
	if err != nil {
		return err
	}
	defer unix.Close(its)
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		unix.Close(mine)
		return fmt.Errorf("open a pidfd: %w", err)
	}
	defer unix.Close(self)
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(mine)
		return &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer unix.Close(null)
	pid, pidfd, err := startHelper(program, rolePager, null, its)
	if err != nil {
		unix.Close(mine)
		return err
	}
	unix.Close(pidfd)
	c.conn, c.pager, c.group = &conn{fd: mine}, pid, pid
	// If it has died already that shows when listening.
	c.conn.send(message{Verb: verbWelcome, Version: protocol, Folders: c.folders, fds: []int{self}})
	return nil
}

// listen takes what the helpers say until they hang up for good.
func (c *client) listen() {
	defer close(c.ended)
	for {
		m, err := c.conn.receive()
		switch {
		case err == nil:
			closeAll(m.fds)
			c.hear(m)
		case !c.restart(err):
			return
		}
	}
}

// hear takes one message.
func (c *client) hear(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.Verb {
	case verbReply:
		c.starts = maxStarts
		if call := c.calls[m.Seq]; call != nil {
			delete(c.calls, m.Seq)
			call.done <- c.outcome(call.m, m.Err)
		}
	case verbHello:
		c.starts = maxStarts
		reap(c.group, unix.WNOHANG)
		if m.Pager != c.pager {
			// The one that had read these requests is dead. What it had done
			// of them is done again, which changes nothing.
			c.pager = m.Pager
			c.repeat()
		}
	}
}

// outcome is what the pager's answer to m comes to. The caller holds mu.
func (c *client) outcome(m message, e *wireError) error {
	if e != nil && m.Again && c.maps[m.ID] != nil {
		c.lost[m.ID] = e
		c.maps[m.ID].abandon()
		delete(c.maps, m.ID)
	}
	if err := c.lost[m.ID]; err != nil {
		return err // The pager only says that it does not know the mapping.
	}
	return e.asError()
}

// call asks the pager and waits for the answer.
func (c *client) call(m message) error {
	c.mu.Lock()
	if err := cmp.Or(c.failed, c.lost[m.ID]); err != nil {
		c.mu.Unlock()
		return err
	}
	call := c.register(m)
	var err error
	if c.conn != nil {
		err = c.conn.send(call.m)
	}
	// That both helpers are gone listen notices, and asks their successors.
	if err != nil && err != unix.EPIPE && err != unix.ECONNRESET {
		delete(c.calls, call.m.Seq)
		c.mu.Unlock()
		return fmt.Errorf("ask the pager: %w", err)
	}
	c.mu.Unlock()
	return <-call.done
}

// register makes m a call. The caller holds mu, and sends it.
func (c *client) register(m message) *call {
	c.lastSeq++
	m.Seq = c.lastSeq
	call := &call{m, make(chan error, 1)}
	c.calls[m.Seq] = call
	return call
}

func (c *client) newID() int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	return c.lastID
}

// add makes m one that new helpers serve, remove ends that: m's descriptors may be
// closed then.
func (c *client) add(m *Mapping) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.maps[m.ID] = m
}

func (c *client) remove(m *Mapping) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.maps, m.ID)
	delete(c.lost, m.ID)
	maps.DeleteFunc(c.calls, func(_ uint64, call *call) bool {
		return call.m.Verb == verbAttach && call.m.ID == m.ID
	})
}

// close ends the helpers and waits for their end. They serve nothing any more: one that
// has not even begun when the others have ended, or is stopped, is killed. Nor is a child
// waited for that has a copy of their end of the connection, made while they were started.
func (c *client) close() {
	c.mu.Lock()
	c.closing = true
	group := c.group
	c.mu.Unlock()
	c.shutdown(unix.SHUT_WR)
	const patience = 2 * time.Second
	select {
	case <-c.ended:
	case <-time.After(patience):
		unix.Kill(-group, unix.SIGKILL)
		c.shutdown(unix.SHUT_RDWR)
		<-c.ended
	}
}

// shutdown ends one direction of the connection, or both.
func (c *client) shutdown(how int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		unix.Shutdown(c.conn.fd, how)
	}
}
