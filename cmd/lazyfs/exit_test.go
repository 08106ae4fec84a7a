package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

// Damage, or a wrong block, is the answer only where nothing failed besides, and an
// interruption hides no failure.
func TestExit(t *testing.T) {
	canceled := fmt.Errorf("x: %w", context.Canceled)
	no := notSoError{errors.New("1 store damaged")}
	failure := &fs.PathError{Op: "write", Path: "y", Err: errors.New("disk is full")}
	for _, c := range []struct {
		err  error
		code int
		line string
	}{
		{nil, 0, ""},
		{no, 1, "lazyfs x: 1 store damaged"},
		{errors.Join(no, errors.Join(nil, no)), 1, "lazyfs x: 1 store damaged; 1 store damaged"},
		{errors.Join(no, failure), 3, "lazyfs x: 1 store damaged; write y: disk is full"},
		{errors.Join(errors.Join(failure, no), no), 3, "lazyfs x: write y: disk is full; 1 store damaged; 1 store damaged"},
		{usagef("--level 99: too high"), 2, "lazyfs x: --level 99: too high"},
		{toldError(3), 3, ""},
		{canceled, 3, "lazyfs x: interrupted"},
		{errors.Join(canceled, failure), 3, "lazyfs x: interrupted; write y: disk is full"},
		{errors.Join(errors.Join(no, canceled), nil), 3, "lazyfs x: interrupted; 1 store damaged"},
	} {
		if code, line := exitCode(c.err), errorLine("x", c.err); code != c.code || line != c.line {
			t.Errorf("%v: exit code %d, %q; want %d, %q", c.err, code, line, c.code, c.line)
		}
	}
}
