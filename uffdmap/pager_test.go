package uffdmap

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lazyfs/internal/uffd"
)

// noMainEnv makes the test program one that does not call Main.
const noMainEnv = "LAZYFS_TEST_NO_MAIN"

// A program that does not call Main is served by the lazyfs command in PATH, and
// without one Map says what to do.
func TestHelperProgram(t *testing.T) {
	path, plain := storeAndPlain(t, 1<<20, 31)
	bin := t.TempDir()
	prepare := func() *exec.Cmd {
		c := command("compare", path, plain)
		c.Env = append(c.Env, noMainEnv+"=1", "PATH="+bin)
		return c
	}
	out, err := output(prepare(), tooLong)
	if err == nil || !strings.Contains(out, ErrNoHelper.Error()) {
		t.Errorf("without a helper program: %v, want %v\n%s", err, ErrNoHelper, out)
	}
	// The command calls Main first thing, as this program does in a helper.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "lazyfs")); err != nil {
		t.Fatal(err)
	}
	run(t, prepare(), tooLong)
}

// A helper that ends at once is an error of Map, not a wait for ever.
func TestHelperEndsAtOnce(t *testing.T) {
	path, plain := storeAndPlain(t, 1<<20, 32)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "lazyfs"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := command("compare", path, plain)
	c.Env = append(c.Env, noMainEnv+"=1", "PATH="+bin)
	out, err := output(c, tooLong)
	if err == nil || !strings.Contains(out, "ended before it was ready") {
		t.Errorf("%v, want an error\n%s", err, out)
	}
}

// The window is one frame on random touches, doubles while they follow each other
// up to its bound, for each of several readers, falls back at once, and copes with
// copies that begin with their last bytes and with a reader that has caught up.
func TestAheadWindow(t *testing.T) {
	const frame, run = maxRun / 8, 8
	var a ahead
	a.reset(frame, 32*frame)
	// step touches n, and wants it filled up to end at once, and then, where the
	// touch is no random one, up to ahead.
	step := func(n, end, ahead int64) *stream {
		t.Helper()
		e, s := a.touched(n)
		if e != end || (s == nil) != (ahead == 0) || s != nil && s.end != ahead {
			t.Errorf("touch of %d: fill to %d, then %+v, want %d and %d", n, e, s, end, ahead)
		}
		return s
	}
	step(100, 101, 0)
	step(7, 8, 0)
	step(7, 8, 0) // told twice
	step(55, 56, 0)
	step(8, 10, 10) // follows 7
	step(8, 9, 0)   // told twice
	step(10, 14, 14)
	s := step(14, 22, 22)
	step(56, 58, 58)
	step(23, 24, 39) // a little early
	for _, want := range [][2]int64{{22, 30}, {30, 38}, {38, 39}, {39, 39}} {
		if n, end, more := a.take(s); n != want[0] || end != want[1] || more != (end < 39) {
			t.Errorf("take: %d to %d, more %v, want %v", n, end, more, want)
		}
	}
	step(30, 30+run, 62) // caught up: the bound is 32
	step(30, 31, 0)
	step(39, 39+run, 71)
	step(500, 501, 0)
	step(39+run, 39+2*run, 79)
}

// One answer serves all faults of a frame; writes to protected frames come first,
// then touches by address; reads and writes of absent pages stay apart.
func TestSortFaults(t *testing.T) {
	const base = 0x7f0000000000
	m := &served{spec: spec{Base: base, Len: 1 << 20, Size: 1 << 20, FrameSize: 16 << 10}}
	w := &worker{}
	event := func(off uintptr, flags uffd.FaultFlags) uffd.Event {
		return uffd.Event{Kind: uffd.EventFault, Addr: base + off, Flags: flags}
	}
	n := copy(w.events[:], []uffd.Event{
		event(0x9000, 0),
		event(0x5123, uffd.FaultWrite|uffd.FaultWP),
		event(0x8000, 0),
		event(0x1000, 0),
		event(0x100000, 0), // behind the mapping
		event(0x4000, uffd.FaultWrite|uffd.FaultWP),
		event(0x8000, uffd.FaultWrite),
		event(0x0000, 0),
		event(0x9000, 0),
	})
	want := []fault{
		{page: 0x5000, protected: true, write: true},
		{page: 0x1000},
		{page: 0x8000, write: true},
		{page: 0x9000},
	}
	if got := w.sort(m, n); !slices.Equal(got, want) {
		t.Errorf("faults are %+v, want %+v", got, want)
	}
}

// A page that is touched again and again while it waits is waited for once, and once
// more when it is touched while it is loaded.
func TestQueueLoadsOnce(t *testing.T) {
	pl, m := &pool{share: 2, inQueue: map[touch]struct{}{}}, &served{}
	faults := []fault{{page: 0}, {page: 1 << 14}, {page: 1 << 14, write: true}}
	for range 3 {
		pl.queueLoads(m, faults)
	}
	if len(pl.queue) != len(faults) {
		t.Fatalf("%d touches wait, want %d", len(pl.queue), len(faults))
	}
	loading, _ := pl.pop()
	pl.queueLoads(m, faults)
	if last := pl.queue[len(pl.queue)-1]; len(pl.queue) != len(faults) || last != loading {
		t.Errorf("%d touches wait, the last is %+v: want %d, %+v", len(pl.queue), last, len(faults), loading)
	}
}

// Whoever waits for a frame's lock gets it when that is free, though another waits for
// another frame for longer.
func TestLocksWake(t *testing.T) {
	l := newLockSet(nil)
	locked := make(chan int64)
	for n := range int64(2) {
		l.lock(n)
		go func() {
			l.lock(n)
			locked <- n
		}()
		eventually(t, "a goroutine that waits", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.waiting == int(n)+1
		})
	}
	for _, n := range []int64{1, 0} {
		l.unlock(n)
		if got := <-locked; got != n {
			t.Errorf("frame %d was locked, want %d", got, n)
		}
	}
}
