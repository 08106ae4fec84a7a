package uffdmap

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// Nobody waits for a log that can't be written. Later it has the first lines in order,
// and how many others there were.
func TestHelperLog(t *testing.T) {
	r, w := io.Pipe()
	l := newHelperLog()
	go l.write(w)
	l.printf("line %d", 0)
	eventually(t, "the first line to be taken", func() bool { return len(l.lines) == 0 })
	const more = 7
	for n := range maxLines + more {
		l.printf("line %d", n+1)
	}
	l.flush() // gives up
	var want strings.Builder
	for n := range maxLines + 1 {
		fmt.Fprintf(&want, "lazyfs pager: line %d\n", n)
		if n == 0 {
			fmt.Fprintf(&want, "lazyfs pager: %d lines left out\n", more)
		}
	}
	got := make([]byte, want.Len())
	_, err := io.ReadFull(r, got)
	must(t, "read", err)
	same(t, "log", got, []byte(want.String()))
	l.flush()
	eventually(t, "all to be written", func() bool { return len(l.lines) == 0 })
	close(l.lines)
}
