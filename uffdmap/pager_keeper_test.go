package uffdmap

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// newHeir makes a standby as its pager p sees it, and what that hears and answers.
func newHeir(t *testing.T, p *pager) (h *heir, standby *conn) {
	mine, its, err := socketPair()
	must(t, "make a socket pair", err)
	t.Cleanup(func() { closeAll([]int{mine, its}) })
	p.programEnd = its
	return &heir{conn: &conn{fd: mine}, answers: make(chan message)}, &conn{fd: its}
}

// Each standby that has not begun in time leaves more time to the next: on a busy
// machine one begins in the end.
func TestKeeperPatience(t *testing.T) {
	p := newPager(nil, -1)
	k := p.keeper
	k.patience = time.Millisecond
	silent, _ := newHeir(t, p)
	for _, want := range []time.Duration{2 * time.Millisecond, 4 * time.Millisecond} {
		if _, lived := k.keep(silent); lived || k.patience != want {
			t.Errorf("it lived: %t, patience is %v now, want %v", lived, k.patience, want)
		}
	}
}

// Without a standby nobody waits for one to know, and one that has ended leaves nothing.
func TestKeeperAlone(t *testing.T) {
	p := newPager(nil, -1)
	open, _ := held(t)
	mine, its, err := socketPair()
	must(t, "make a socket pair", err)
	defer unix.Close(its)
	child := exec.Command("/bin/sleep", "1h")
	must(t, "start", child.Start())
	pidfd, err := unix.PidfdOpen(child.Process.Pid, 0)
	must(t, "open a pidfd", err)
	h := &heir{conn: &conn{fd: mine}, pidfd: pidfd, answers: make(chan message)}
	go h.listen()
	h.end()
	child.Wait()
	if now, _ := held(t); now > open+1 {
		t.Errorf("%d descriptors are open after a standby's end, want %d", now, open+1)
	}
	asked := tell{message{Verb: verbAdopt}, make(chan struct{})}
	p.keeper.postpone(asked)
	p.keeper.wait(0)
	select {
	case <-asked.done:
	default:
		t.Error("who asks that a standby knows waits for one")
	}
}

// What is detached while a standby is told of it waits for no answer of that, which hears
// of it before it may succeed the pager.
func TestDetachBesideAdopt(t *testing.T) {
	m, err := openServed(newHolding(t, spec{}), false)
	must(t, "open", err)
	p := newPager(nil, -1)
	p.served[m.ID] = m
	a, _, _ := newHeard(t)
	p.pool = &pool{attention: a}
	must(t, "watch", p.pool.watch(m))
	if !a.hush(m) {
		t.Error("a mapping that is watched can't be hushed")
	}
	h, standby := newHeir(t, p)
	go h.listen()
	go p.keeper.keep(h)
	defer unix.Shutdown(h.fd, unix.SHUT_RDWR)
	for _, want := range []verb{verbWelcome, verbDrop, verbAdopt, verbDrop, verbReady} {
		got, err := standby.receive()
		must(t, "hear from the pager", err)
		closeAll(got.fds)
		if got.Verb != want {
			t.Fatalf("the standby hears %q, want %q", got.Verb, want)
		}
		if want == verbAdopt {
			detached := make(chan error, 1)
			go func() { detached <- p.detach(m.ID) }()
			select {
			case err := <-detached:
				must(t, "detach", err)
			case <-time.After(tooLong):
				t.Fatal("detach waits for the standby")
			}
			if a.quiet.Load() != nil {
				t.Error("what is detached is watched")
			}
		}
		if want != verbWelcome {
			must(t, "answer", standby.send(message{Verb: verbReply}))
		}
	}
}

// heldEnv names a file: no standby begins while it is there.
const heldEnv = "LAZYFS_TEST_HELD"

func awaitGone(file string) {
	for {
		if _, err := os.Stat(file); os.IsNotExist(err) {
			return
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// A mapping can be closed although a standby takes for ever to begin.
func TestMapCloseBesideSlowStandby(t *testing.T) {
	held := filepath.Join(t.TempDir(), "held")
	t.Setenv(heldEnv, held)
	t.Setenv(patienceEnv, "1h")
	data := content(100_000, 76)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	data[0]++
	m.Bytes()[0] = data[0]
	must(t, "hold standbys", os.WriteFile(held, nil, 0o600))
	standby := 0
	eventually(t, "a standby", func() bool {
		standby = helper(os.Getpid(), roleStandby)
		return standby != 0
	})
	must(t, "kill", unix.Kill(standby, unix.SIGKILL))
	eventually(t, "its end", func() bool { return ended(standby) })
	closed := make(chan error, 1)
	go func() { closed <- m.Close() }()
	select {
	case err := <-closed:
		must(t, "close", err)
	case <-time.After(tooLong):
		os.Remove(held)
		t.Fatal("close waits for a standby")
	}
	same(t, "store", unpack(t, path), data)
	if h := helpers(os.Getpid()); len(h) != 0 {
		t.Errorf("helpers %v are left", h)
	}
}
