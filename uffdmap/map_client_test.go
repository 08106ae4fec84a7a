package uffdmap

import (
	"io"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// New helpers are asked to serve all mappings, before anything else is asked of them,
// until one of them has said that it does. A mapping that is gone they don't get.
func TestClientAttachesAgain(t *testing.T) {
	mine, its, err := socketPair()
	must(t, "make a socket pair", err)
	defer closeAll([]int{mine, its})
	fds := make([]int, fdSource+1) // standard input, which is always there
	mapping := func(id int32) *Mapping { return &Mapping{spec: spec{ID: id}, memory: -1, fds: fds} }
	a, b := mapping(1), mapping(2)
	c := &client{conn: &conn{fd: mine}, pager: 10, group: 1 << 30, calls: map[uint64]*call{}, maps: map[int32]*Mapping{1: a, 2: b}}
	sync := c.register(message{Verb: verbSync, ID: 1})
	helpers := &conn{fd: its}
	got := func() (m message) {
		t.Helper()
		unix.SetsockoptTimeval(its, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
		m, err := helpers.receive()
		must(t, "receive", err)
		closeAll(m.fds)
		return m
	}
	want := func(verb verb, ids ...int32) (last message) {
		t.Helper()
		left := map[int32]bool{}
		for _, id := range ids {
			left[id] = true
		}
		for range ids {
			last = got()
			if last.Verb != verb || !left[last.ID] {
				t.Fatalf("got %s of mapping %d, want %s of %v", last.Verb, last.ID, verb, left)
			}
			delete(left, last.ID)
		}
		return last
	}
	c.attachAll()
	served := want(verbAttach, 1, 2)
	want(verbSync, 1)
	want(verbRepeated, 0)

	// This pager dies when it serves one of them.
	c.hear(message{Verb: verbReply, Seq: served.Seq})
	for range 2 { // It has started another standby when it says so again.
		c.hear(message{Verb: verbHello, Pager: 11})
	}
	want(verbAttach, 3-served.ID)
	want(verbSync, 1)
	if m := want(verbRepeated, 0); m.Pager != 11 {
		t.Errorf("all is repeated to pager %d, want 11", m.Pager)
	}

	// So does the next one, and the other mapping is closed.
	c.remove(map[int32]*Mapping{1: b, 2: a}[served.ID])
	c.hear(message{Verb: verbHello, Pager: 12})
	want(verbSync, 1)
	want(verbRepeated, 0)
	c.hear(message{Verb: verbReply, Seq: sync.m.Seq})
	must(t, "sync", <-sync.done)
	c.hear(message{Verb: verbHello, Pager: 13})
	want(verbRepeated, 0)
	if len(c.calls) > 0 {
		t.Errorf("%d calls are open", len(c.calls))
	}
}

// A mapping that no pager has served yet is new to the next one, too.
func TestClientAttachesNew(t *testing.T) {
	in, out := connected(t)
	fds := make([]int, fdSource+1) // standard input, which is always there
	served, newer := &Mapping{spec: spec{ID: 1}, fds: fds}, &Mapping{spec: spec{ID: 2}, fds: fds}
	c := &client{conn: in, calls: map[uint64]*call{}, maps: map[int32]*Mapping{1: served, 2: newer}}
	c.register(newer.attachment())
	c.attachAll()
	for range 2 {
		m, err := out.receive()
		must(t, "receive", err)
		closeAll(m.fds)
		if m.Verb != verbAttach || m.Again != (m.ID == 1) {
			t.Errorf("%s of mapping %d, again: %t", m.Verb, m.ID, m.Again)
		}
	}
	if m, err := out.receive(); err != nil || m.Verb != verbRepeated {
		t.Errorf("%s of mapping %d (%v), want %s", m.Verb, m.ID, err, verbRepeated)
	}
}

// New helpers that can't be told what to serve end, and are replaced in their turn.
func TestClientCantAttach(t *testing.T) {
	in, out := connected(t)
	m := &Mapping{spec: spec{ID: 1}, fds: slices.Repeat([]int{-1}, fdSource+1)}
	c := &client{conn: in, calls: map[uint64]*call{}, maps: map[int32]*Mapping{1: m}}
	c.attachAll()
	for name, end := range map[string]*conn{"program": in, "pager": out} {
		unix.SetsockoptTimeval(end.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
		if m, err := end.receive(); err != io.EOF {
			t.Errorf("the %s receives %q (%v), want io.EOF", name, m.Verb, err)
		}
	}
}

// What is asked when both helpers have just died their successors are asked.
func TestClientAsksSuccessors(t *testing.T) {
	dead, end, err := socketPair()
	must(t, "make a socket pair", err)
	unix.Close(end)
	defer unix.Close(dead)
	c := &client{conn: &conn{fd: dead}, calls: map[uint64]*call{}, maps: map[int32]*Mapping{}}
	answered := make(chan error, 1)
	go func() { answered <- c.call(message{Verb: verbSync, ID: 1}) }()
	eventually(t, "the call", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.calls) > 0 || len(answered) > 0
	})
	in, out := connected(t)
	c.mu.Lock()
	c.conn = in
	c.attachAll()
	c.mu.Unlock()
	m, err := out.receive()
	if err != nil || m.Verb != verbSync || m.ID != 1 {
		t.Errorf("the successors are asked to %s mapping %d (%v), want %s of 1", m.Verb, m.ID, err, verbSync)
	}
	c.hear(message{Verb: verbReply, Seq: m.Seq})
	must(t, "sync", <-answered)
}
