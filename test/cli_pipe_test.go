package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Nothing waits for the writer of a named pipe that is named for a store, or for the
// reader of one for messages.
func TestNamedPipeForStore(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "mnt"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, args := range [][]string{
		{"info", "pipe"}, {"check", "pipe"}, {"check", "--repair", "pipe"}, {"cat", "pipe"}, {"dump", "pipe"},
		{"unpack", "pipe", "out"}, {"copy", "pipe", "out"}, {"compact", "pipe"}, {"mount", "pipe", dir},
		{"mount", "--log", "pipe", ".", "mnt"}, {"mount", "--foreground", "--log", "pipe", ".", "mnt"},
		{"bench", "map", "pipe"}, {"bench", "file", "pipe"},
	} {
		c := exec.CommandContext(ctx, binary, args...)
		c.Dir, c.WaitDelay = dir, time.Second
		if r := finish(t, c); r.code != 3 || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%q: exit code %d, %q; want 3 and a line", args, r.code, r.err)
		}
	}
}

// Standard input that is closed is an error; an empty one is an empty file.
func TestPackClosedInput(t *testing.T) {
	dir := t.TempDir()
	pack := func(name, input string) result {
		c := exec.Command("sh", "-c", `"$0" pack --quiet - "$1" `+input, binary, name)
		c.Dir = dir
		return finish(t, c)
	}
	failed(t, pack("closed", "<&-"), 3, "lazyfs pack: standard input: is closed\n")
	if r := pack("empty", "</dev/null"); r != (result{}) {
		t.Errorf("pack of nothing: %+v, want silence", r)
	}
	if got := list(t, dir); !slices.Equal(got, []string{"empty"}) {
		t.Errorf("there are %q, want the store of nothing alone", got)
	}
}
