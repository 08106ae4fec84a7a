package test

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo terminal: what is written to tty can be read
// from user.
func openTerminal(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return user, tty
}

// A screen is all that was written to a terminal.
type screen struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// watch collects what user reads until the terminal is closed.
func (s *screen) watch(user *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := user.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.mu.Unlock()
		if err != nil { // EIO: nobody has the terminal open any more
			return
		}
	}
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Long work shows its progress on a terminal, and removes it in the end; with
// --quiet it does not.
func TestProgress(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		user, tty := openTerminal(t)
		var s screen
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.watch(user)
		}()
		c := command(t.TempDir(), "pack", "-", "x.lazy", "--quiet="+strconv.FormatBool(quiet))
		c.Stderr = tty
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		tty.Close()
		chunk, fed := text(1, 1<<20), 0
		eventually(t, "progress is shown", func() bool {
			if _, err := in.Write(chunk); err != nil {
				t.Fatal(err)
			}
			fed++
			return quiet && fed == 300 || strings.Contains(s.String(), " MB/s")
		})
		in.Close()
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		<-ended
		switch got := s.String(); {
		case quiet && got != "":
			t.Errorf("pack --quiet writes %q to the terminal", got)
		case !quiet && (!strings.HasPrefix(got, "\rstandard input: ") || !strings.HasSuffix(got, "\r\x1b[K")):
			t.Errorf("pack writes %q to the terminal", got)
		}
	}
}
