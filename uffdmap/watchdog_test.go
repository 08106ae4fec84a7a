package uffdmap

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tooLong marks a program as hung: it is more than any takes on a slow and busy machine.
const tooLong = 2 * time.Minute

// guardedEnv tells the test program that another one watches it.
const guardedEnv = "LAZYFS_TEST_GUARDED"

// guard runs the tests in a child of this process and returns its exit code. A test
// that waits for a page stops the child's runtime, -timeout included: then guard ends
// it a little later, and tells where it hung.
func guard() int {
	flag.Parse()
	limit := time.Duration(math.MaxInt64)
	if timeout := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration); timeout > 0 {
		limit = timeout + 10*time.Second
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), guardedEnv+"=1", "GOTRACEBACK=crash") // all threads, should the watchdog ask
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // whose end the child would notice
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dog := watch(c, limit)
	c.Wait()
	if err := dog.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return c.ProcessState.ExitCode()
}

// A watchdog ends a command that takes too long, after it has told where each of
// its threads is.
type watchdog struct {
	done  chan struct{} // closed by stop
	ended chan struct{} // closed when the watchdog has nothing more to do
	found bytes.Buffer  // what it did, if anything; complete when ended is closed
}

// watch ends c, which was started, with its helpers when limit has passed. The
// goroutines of the program and of its pager are written to its standard error.
// Time in which this program stands still, as in a frozen group, does not count:
// ticks don't pile up.
func watch(c *exec.Cmd, limit time.Duration) *watchdog {
	const tick = 100 * time.Millisecond
	w := &watchdog{done: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for range limit / tick {
			select {
			case <-w.done:
				return
			case <-ticker.C:
			}
		}
		fmt.Fprintf(&w.found, "hung for %v and was killed\n", limit)
		w.end(c.Process)
	}()
	return w
}

// stop is called when the command has ended, and says what the watchdog found if
// it was the one who ended it.
func (w *watchdog) stop() error {
	close(w.done)
	<-w.ended
	if w.found.Len() == 0 {
		return nil
	}
	return errors.New(w.found.String())
}

// end tells what is known of p and its helpers and ends them one by one, so that
// none goes on because another has ended.
func (w *watchdog) end(p *os.Process) {
	served := helpers(p.Pid)
	writeThreads(&w.found, p.Pid)
	for pid := range served {
		writeThreads(&w.found, pid)
	}
	for pid, name := range served {
		if name == "lazyfs-pager" {
			continue
		}
		unix.Kill(pid, unix.SIGSTOP)
		defer unix.Kill(pid, unix.SIGKILL)
	}
	for pid, name := range served {
		if name == "lazyfs-pager" {
			quit(pid)
		}
	}
	quit(p.Pid)
	p.Kill()
}

// quit makes a Go program write its goroutines, and waits for its end.
func quit(pid int) {
	unix.Kill(pid, unix.SIGQUIT)
	unix.Kill(pid, unix.SIGCONT)
	await("its end", func() bool { return ended(pid) })
}

// ended says that process pid is gone, or waits for its parent.
func ended(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err != nil || bytes.Contains(b, []byte("State:\tZ"))
}

// writeThreads writes what the kernel knows of the threads of process pid.
func writeThreads(out *bytes.Buffer, pid int) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, dir := range threads {
		read := func(name string) string {
			b, _ := os.ReadFile(filepath.Join(dir, name))
			return strings.TrimSpace(string(b))
		}
		stat := read("stat")
		state := strings.TrimSpace(stat[strings.LastIndexByte(stat, ')')+1:])
		fmt.Fprintf(out, "%s (%s): state %.1s in %s, system call %s\n", dir, read("comm"), state, read("wchan"), read("syscall"))
		for line := range strings.Lines(read("stack")) {
			fmt.Fprintf(out, "\t%s\n", strings.TrimSpace(line))
		}
	}
}
