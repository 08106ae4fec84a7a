package main

import (
	"strings"
	"testing"
	"time"
)

// A word that is nearly right gets the right one, any other the way to the list.
func TestHint(t *testing.T) {
	words := []string{"pack", "unpack", "info", "mount", "umount"}
	for wrong, want := range map[string]string{
		"pak":    "did you mean pack?",
		"umonut": "did you mean umount?",
		"moutn":  "did you mean mount?",
		"zebra":  "the list",
	} {
		if got := hint(wrong, words, "the list"); got != want {
			t.Errorf("hint(%q) = %q, want %q", wrong, got, want)
		}
	}
}

// Every command says all that its help needs, in the style of the others.
func TestCommands(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range commands {
		if seen[c.name] {
			t.Errorf("command %s is listed twice", c.name)
		}
		seen[c.name] = true
		if c.summary == "" || c.about == "" || len(c.args) == 0 || !c.internal && len(c.examples) == 0 {
			t.Errorf("command %s: summary, about, args or examples are missing", c.name)
		}
		if strings.HasSuffix(c.summary, ".") || strings.ToUpper(c.summary[:1]) != c.summary[:1] {
			t.Errorf("command %s: summary %q: want a capital first and no full stop", c.name, c.summary)
		}
		for _, e := range c.examples {
			if !strings.Contains(e, "lazyfs ") {
				t.Errorf("command %s: example %q does not run lazyfs", c.name, e)
			}
		}
	}
}

// The progress line is right with and without a known total.
func TestProgressText(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		spent       time.Duration
		want        string
	}{
		{64 << 20, 256 << 20, time.Second, "25% of 256.0 MiB, 67 MB/s, 3s left"},
		{64 << 20, 0, time.Second, "64.0 MiB, 67 MB/s"},
		{0, 256 << 20, time.Second, "0 bytes, 0 MB/s"},
	} {
		if got := progressText(c.done, c.total, c.spent); got != c.want {
			t.Errorf("progressText(%d, %d, %v) = %q, want %q", c.done, c.total, c.spent, got, c.want)
		}
	}
}
