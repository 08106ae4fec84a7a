package test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Nothing waits for the writer of a named pipe that is named for a store.
func TestNamedPipeForStore(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, args := range [][]string{
		{"info", "pipe"}, {"check", "pipe"}, {"check", "--repair", "pipe"}, {"cat", "pipe"}, {"dump", "pipe"},
		{"unpack", "pipe", "out"}, {"copy", "pipe", "out"}, {"compact", "pipe"}, {"mount", "pipe", dir},
		{"bench", "map", "pipe"}, {"bench", "file", "pipe"},
	} {
		c := exec.CommandContext(ctx, binary, args...)
		c.Dir = dir
		if r := finish(t, c); r.code != 3 || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%q: exit code %d, %q; want 3 and a line", args, r.code, r.err)
		}
	}
}
