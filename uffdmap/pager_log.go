package uffdmap

import (
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"time"
)

// A helperLog writes lines that nobody waits for: standard error may be a pipe that is
// full and that nobody reads. What can't be kept until it is written is left out.
type helperLog struct {
	lines   chan logLine
	leftOut atomic.Int64
}

// A logLine is text, or asks to close done when all before it has been written.
type logLine struct {
	text string
	done chan struct{}
}

// maxLines is how many lines may wait to be written.
const maxLines = 100

// log is that of this helper, which setUpHelper begins to write.
var log = newHelperLog()

func newHelperLog() *helperLog { return &helperLog{lines: make(chan logLine, maxLines)} }

// printf says something on the standard error of this helper.
func (l *helperLog) printf(format string, args ...any) {
	select {
	case l.lines <- logLine{text: fmt.Sprintf("lazyfs pager: "+format+"\n", args...)}:
	default:
		l.leftOut.Add(1)
	}
}

// write writes the lines to w, for ever.
func (l *helperLog) write(w io.Writer) {
	for line := range l.lines {
		if line.done != nil {
			close(line.done)
			continue
		}
		io.WriteString(w, line.text)
		if n := l.leftOut.Swap(0); n > 0 {
			fmt.Fprintf(w, "lazyfs pager: %d lines left out\n", n)
		}
	}
}

// flush waits until all lines are written, but not for ever.
func (l *helperLog) flush() {
	const patience = time.Second // of those who wait for a successor
	timer := time.After(patience)
	done := make(chan struct{})
	select {
	case l.lines <- logLine{done: done}:
	case <-timer:
		return
	}
	select {
	case <-done:
	case <-timer:
	}
}

// exit ends this helper when its log is written.
func exit(code int) {
	log.flush()
	// Before os.Exit the race detector would sleep for a second: it can't read its
	// options in a confined process.
	syscall.Exit(code)
}
