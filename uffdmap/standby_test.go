package uffdmap

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// deadPidfd opens a pidfd of a process that has ended.
func deadPidfd(t *testing.T) int {
	t.Helper()
	dead := exec.Command("/bin/true")
	must(t, "start", dead.Start())
	pidfd, err := unix.PidfdOpen(dead.Process.Pid, 0)
	must(t, "open a pidfd", err)
	must(t, "end", dead.Wait())
	return pidfd
}

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
		pidfd := deadPidfd(t)
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

// A standby holds each mapping once until it is dropped, and ends when the program has no
// use for helpers any more.
func TestStandbyHolds(t *testing.T) {
	h := newHolding(t, spec{})
	defer closeAll(h.fds)
	mine, pager, err := socketPair()
	must(t, "make a socket pair", err)
	program, end, err := socketPair()
	must(t, "make a socket pair", err)
	self, err := unix.PidfdOpen(unix.Getpid(), 0)
	must(t, "open a pidfd", err)
	pidfd := deadPidfd(t)
	defer closeAll([]int{mine, pager, program, end, self, pidfd})
	s := &standby{
		program: &conn{fd: end}, pager: &conn{fd: pager}, held: map[int32]holding{},
		ready: true, programEnd: self, pagerEnd: pidfd,
	}
	before, _ := held(t)
	adopt := message{Verb: verbAdopt, Spec: &h.spec, fds: h.fds}
	for _, told := range []struct {
		m    message
		held int
	}{{adopt, 1}, {adopt, 1}, {message{Verb: verbDrop, ID: h.spec.ID}, 0}} {
		must(t, "tell", (&conn{fd: mine}).send(told.m))
		must(t, "obey", s.obey())
		open, _ := held(t)
		if open -= before; len(s.held) != told.held || open > told.held*len(h.fds) {
			t.Errorf("after %q: %d mappings and %d descriptors are held, want %d mappings", told.m.Verb, len(s.held), open, told.held)
		}
	}
	must(t, "hang up", unix.Shutdown(program, unix.SHUT_WR))
	if succeeds, err := s.wait(); succeeds || err != nil {
		t.Errorf("when the program has hung up it succeeds: %t, or %v", succeeds, err)
	}
}

// lastEnv makes a pager that was a standby able to open nothing more: it can start no
// standby.
const lastEnv = "LAZYFS_TEST_LAST"

func lastSource(s store.Source) store.Source {
	time.Sleep(time.Nanosecond) // so that the runtime has opened what timers need
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{}); err != nil {
		return brokenSource{s.Size(), s.FrameSize(), fmt.Errorf("limit descriptors: %w", err)}
	}
	return s
}

// What a dead pager has read, and not answered, its successor is asked again, also when
// it can start no standby.
func TestStandbyAskedAgain(t *testing.T) {
	folder := t.TempDir()
	t.Setenv(stuckEnv, folder)
	t.Setenv(lastEnv, "1")
	m := mustMap(t, pack(t, content(1<<20, 72), store.CreateOptions{}), Options{})
	asked := make(chan error, 1)
	go func() { asked <- m.Prefetch(Range{1 << 14, 1}) }() // It does not come.
	eventually(t, "the pager to read that", func() bool {
		m.client.mu.Lock()
		defer m.client.mu.Unlock()
		unread, err := unix.IoctlGetInt(m.client.conn.fd, unix.TIOCOUTQ)
		return err == nil && unread == 0 && len(m.client.calls) > 0
	})
	pager, err := living(rolePager)
	must(t, "find the pager", err)
	must(t, "kill", unix.Kill(pager, unix.SIGKILL))
	eventually(t, "its end", func() bool { return ended(pager) })
	must(t, "let it come", os.WriteFile(filepath.Join(folder, "1"), nil, 0o600))
	select {
	case err := <-asked:
		must(t, "prefetch", err)
	case <-time.After(tooLong):
		t.Error("prefetch was not asked again")
		successor, err := living(rolePager)
		must(t, "find the successor", err)
		unix.Kill(successor, unix.SIGKILL) // Others are asked again.
	}
	if h := helpers(os.Getpid()); len(h) != 1 {
		t.Errorf("helpers are %v, want a pager alone", h)
	}
}
