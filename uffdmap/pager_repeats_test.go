package uffdmap

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A request that comes twice, as one that the last pager has left unread, is obeyed
// once, up to where the program has sent all again. From then on none is remembered.
func TestPagerObeysOnce(t *testing.T) {
	mine, its, err := socketPair()
	must(t, "make a socket pair", err)
	defer closeAll([]int{mine, its})
	p := newPager(&conn{fd: its}, -1)
	p.repeats.expect()
	program := &conn{fd: mine}
	sent := []message{
		{Verb: verbSync, Seq: 7}, {Verb: verbProtect, Seq: 8}, // unread by the last pager
		{Verb: verbRepeated, Pager: 1}, // the end of what was sent again to that one
		{Verb: verbProtect, Seq: 6}, {Verb: verbSync, Seq: 7}, {Verb: verbProtect, Seq: 8}, {Verb: verbRepeated, Pager: os.Getpid()},
		{Verb: verbSync, Seq: 9}, {Verb: verbSync, Seq: 9}, // not told apart any more
	}
	for _, m := range sent {
		must(t, "send", program.send(m))
	}
	unix.Shutdown(mine, unix.SHUT_WR)
	must(t, "obey", p.obeyProgram())
	if p.repeats.seen != nil {
		t.Errorf("%d requests are remembered", len(p.repeats.seen))
	}
	replies := map[uint64]int{}
	unix.SetsockoptTimeval(mine, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	for range 5 {
		m, err := program.receive()
		must(t, "receive", err)
		replies[m.Seq]++
	}
	for seq, want := range map[uint64]int{6: 1, 7: 1, 8: 1, 9: 2} {
		if replies[seq] != want {
			t.Errorf("request %d has %d replies, want %d", seq, replies[seq], want)
		}
	}
	unix.SetsockoptTimeval(mine, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 1000})
	if m, err := program.receive(); err == nil {
		t.Errorf("a reply too many, to request %d", m.Seq)
	}
}
