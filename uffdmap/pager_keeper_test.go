package uffdmap

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Each standby that has not begun in time leaves more time to the next: on a busy
// machine one begins in the end.
func TestKeeperPatience(t *testing.T) {
	mine, its, err := socketPair()
	must(t, "make a socket pair", err)
	defer unix.Close(mine)
	defer unix.Close(its)
	k := newKeeper(&pager{programEnd: its})
	k.patience = time.Millisecond
	silent := &heir{conn: &conn{fd: mine}, answers: make(chan message)}
	for _, want := range []time.Duration{2 * time.Millisecond, 4 * time.Millisecond} {
		if _, lived := k.keep(silent, nil); lived || k.patience != want {
			t.Errorf("it lived: %t, patience is %v now, want %v", lived, k.patience, want)
		}
	}
}
