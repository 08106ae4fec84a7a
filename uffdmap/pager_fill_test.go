package uffdmap

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
)

// Who waits for a page that another worker has brought in, and of whom the kernel told
// after that, goes on.
func TestTouchOfPresentPage(t *testing.T) {
	w, m, _ := newLoneWorker(t, spec{})
	r, out, err := socketPair()
	must(t, "make a socket pair", err)
	defer closeAll([]int{r, out})
	off, _ := m.extent(3)
	done := make(chan error, 1)
	go func() { // In a system call it keeps no P.
		if _, _, errno := unix.Syscall(unix.SYS_WRITE, uintptr(out), m.addr(off), 1); errno != 0 {
			done <- errno
		}
		close(done)
	}()
	n := 0
	eventually(t, "a fault", func() bool {
		n, _ = w.read(m)
		return n > 0
	})
	_, err = m.uffd.Copy(m.addr(off), address(w.scratch), pageSize, uffd.CopyDontWake)
	must(t, "bring the page in", err)
	w.answerSome(m, n)
	select {
	case err := <-done:
		must(t, "touch", err)
	case <-time.After(tooLong):
		t.Error("who touched the page waits for ever")
		m.wake(3)
		<-done
	}
}
