package main

import "testing"

// A name in a line of progress is a part of that line, whatever bytes it has.
func TestPrintable(t *testing.T) {
	for name, want := range map[string]string{
		"a b é 漢.lazy":         "a b é 漢.lazy",
		"new\nline\r\t\x1b[2J": "new?line???[2J",
		"\xff\u009b":           "\ufffd?",
	} {
		if got := printable(name); got != want {
			t.Errorf("printable(%q) = %q, want %q", name, got, want)
		}
	}
}
