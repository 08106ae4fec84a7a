package uffdmap

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A standby succeeds its pager when it was told everything, and not before: what it
// was not told nobody would serve.
func TestStandbySucceeds(t *testing.T) {
	named := make(chan string, 1)
	go func() { named <- <-names }()
	for _, told := range []bool{false, true} {
		pager, its, err := socketPair()
		must(t, "make a socket pair", err)
		program, end, err := socketPair()
		must(t, "make a socket pair", err)
		defer closeAll([]int{its, program, end})
		dead := exec.Command("/bin/true")
		must(t, "start", dead.Start())
		pidfd, err := unix.PidfdOpen(dead.Process.Pid, 0)
		must(t, "open a pidfd", err)
		must(t, "end", dead.Wait())
		self, err := unix.PidfdOpen(unix.Getpid(), 0)
		must(t, "open a pidfd", err)
		defer closeAll([]int{pidfd, self})
		if told {
			must(t, "send", (&conn{fd: pager}).send(message{Verb: verbReady}))
		}
		unix.Close(pager)
		s := &standby{program: &conn{fd: end}, pager: &conn{fd: its}, programEnd: self, pagerEnd: pidfd}
		succeeds, err := s.wait()
		must(t, "wait", err)
		if succeeds != told {
			t.Errorf("told everything: %t, succeeds: %t", told, succeeds)
		}
	}
	if got := <-named; got != "lazyfs-"+roleStandby {
		t.Errorf("it is called %q", got)
	}
}
