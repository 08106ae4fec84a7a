package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// A progress tells how far long work has come, on one line of standard error.
// It is silent when that is not a terminal that knows control sequences. A nil
// progress is silent too. Its methods may be called from many goroutines at once.
type progress struct {
	what  string
	start time.Time

	mu   sync.Mutex // guards next
	next time.Time  // when the line is written again
}

// progressPause is the time between two lines: often enough to look alive.
const progressPause = 200 * time.Millisecond

// quietFlag declares --quiet.
func quietFlag(f *pflag.FlagSet) *bool {
	return f.BoolP("quiet", "q", false, "print no progress and no summary")
}

// newProgress begins to tell about what; call end when the work is over.
func newProgress(quiet bool, what string) *progress {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); quiet || err != nil || os.Getenv("TERM") == "dumb" {
		return nil
	}
	now := time.Now()
	return &progress{what: printable(what), start: now, next: now.Add(progressPause)}
}

// report says that done bytes of total are ready; total is 0 when not known.
func (p *progress) report(done, total int64) {
	p.show(func(spent time.Duration) string { return progressText(done, total, spent) })
}

// show writes what text gives for the time spent, unless a line was written just
// now.
func (p *progress) show(text func(spent time.Duration) string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(progressPause)
	// Where the terminal is too narrow the line does not wrap but ends.
	fmt.Fprintf(os.Stderr, "\r\x1b[?7l%s: %s\x1b[K\x1b[?7h", text(now.Sub(p.start)), p.what)
}

// end removes the line.
func (p *progress) end() {
	if p != nil {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}

// printLine prints one line, in which a file's name does nothing to a terminal and ends
// no line.
func printLine(w io.Writer, format string, a ...any) error {
	_, err := fmt.Fprintln(w, printable(fmt.Sprintf(format, a...)))
	return err
}

// printable is name with a question mark for each character that would do something
// to a terminal.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
}

// progressText is the line for done bytes of total after the time spent.
func progressText(done, total int64, spent time.Duration) string {
	rate := float64(done) / spent.Seconds()
	text := fmt.Sprintf("%s, %.0f MB/s", humanSize(done), rate/1e6)
	if total <= 0 || done <= 0 || done > total {
		return text
	}
	left := time.Duration(float64(total-done) / rate * float64(time.Second))
	return fmt.Sprintf("%d%% of %s, %.0f MB/s, %v left",
		int64(float64(done)/float64(total)*100), humanSize(total), rate/1e6, left.Round(time.Second))
}
