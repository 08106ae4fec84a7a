package test

import (
	"bytes"
	"os"
	"regexp"
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

// packOnTerminal packs standard input into x.lazy with the flags, on a terminal of
// the type term, until shown tells that what was written to it is enough, or, for
// silence, 200 MiB. It returns what was written to the terminal.
func packOnTerminal(t *testing.T, term string, shown func(text string) bool, flags ...string) string {
	t.Helper()
	user, tty := openTerminal(t)
	var s screen
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.watch(user)
	}()
	c := command(t.TempDir(), append([]string{"pack", "-", "x.lazy"}, flags...)...)
	c.Env = append(os.Environ(), "TERM="+term)
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
		return shown == nil && fed == 200 || shown != nil && shown(s.String())
	})
	in.Close()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	<-ended
	return s.String()
}

// Long work shows its progress on a terminal, in one line that never wraps, and
// removes it in the end.
func TestProgress(t *testing.T) {
	got := packOnTerminal(t, "xterm", func(text string) bool { return strings.Contains(text, " MB/s") })
	line := `\r\x1b\[\?7l[0-9.]+ MiB, [0-9]+ MB/s: standard input\x1b\[K\x1b\[\?7h`
	if !regexp.MustCompile(`^(` + line + `)+\r\x1b\[K$`).MatchString(got) {
		t.Errorf("pack writes %q to the terminal", got)
	}
}

// With --quiet, and on a terminal that knows no control sequences, no progress is shown.
func TestNoProgress(t *testing.T) {
	if got := packOnTerminal(t, "xterm", nil, "--quiet"); got != "" {
		t.Errorf("pack --quiet writes %q to the terminal", got)
	}
	if got := packOnTerminal(t, "dumb", nil); got != "" {
		t.Errorf("pack writes %q to a dumb terminal", got)
	}
}
