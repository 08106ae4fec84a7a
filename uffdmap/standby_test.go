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
	pager := helper(os.Getpid(), rolePager)
	must(t, "kill", unix.Kill(pager, unix.SIGKILL))
	eventually(t, "its end", func() bool { return ended(pager) })
	must(t, "let it come", os.WriteFile(filepath.Join(folder, "1"), nil, 0o600))
	select {
	case err := <-asked:
		must(t, "prefetch", err)
	case <-time.After(tooLong):
		t.Error("prefetch was not asked again")
		unix.Kill(helper(os.Getpid(), rolePager), unix.SIGKILL) // Others are asked again.
	}
	if h := helpers(os.Getpid()); len(h) != 1 {
		t.Errorf("helpers are %v, want a pager alone", h)
	}
}
