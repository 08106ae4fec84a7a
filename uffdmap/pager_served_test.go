package uffdmap

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestComplete has a frame complete when all of its pages are in memory, however
// that is found out.
func TestComplete(t *testing.T) {
	const frame, frames = 4 * pageSize, 64
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, frames*frame); err != nil {
		t.Fatal(err)
	}
	m := &served{memory: fd}
	var page [pageSize]byte
	for n := int64(0); n < frames; n++ {
		whole := true
		for at := n * frame; at < (n+1)*frame; at += pageSize {
			if rand.IntN(4) == 0 && n%2 == 1 {
				whole = false
				continue
			}
			if err := pwriteFull(fd, page[:], at); err != nil {
				t.Fatal(err)
			}
		}
		if got := m.complete(n*frame, frame); got != whole {
			t.Errorf("frame %d: complete is %v, want %v", n, got, whole)
		}
		if got := m.completeBySeek(n*frame, frame); got != whole {
			t.Errorf("frame %d: completeBySeek is %v, want %v", n, got, whole)
		}
	}
}

// held counts what this process has open, and the tables that it has mapped.
func held(t *testing.T) (open, tables int) {
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, "read descriptors", err)
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, "read maps", err)
	return len(fds), bytes.Count(maps, []byte("lazyfs-table"))
}

// newImages makes the descriptors of a snapshot of m.
func newImages(t *testing.T, m *served) (fds []int) {
	for range snapshotFds {
		fd, err := newNameless(t.TempDir(), m.Len)
		must(t, "make a file", err)
		fds = append(fds, fd)
	}
	return fds
}

// A mapping that a pager serves no more leaves nothing behind in it, snapshots included, and
// who meets it still can't use it: its descriptors may be something else by then.
func TestServedClosed(t *testing.T) {
	program := newHolding(t, spec{Writable: true, Limit: 1})
	defer closeAll(program.fds)
	first, _ := held(t)
	var fds []int
	for _, fd := range program.fds {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		must(t, "dup", err)
		fds = append(fds, d)
	}
	_, tables := held(t)
	m, err := openServed(holding{program.spec, fds}, false)
	must(t, "open", err)
	must(t, "open for writing", m.sound())
	must(t, "take a snapshot", m.takeSnapshot(1, newImages(t, m)))
	must(t, "close", m.close())
	if m.enter() {
		t.Error("what is closed can be used")
	}
	if open, left := held(t); open > first || left > tables {
		t.Errorf("%d descriptors are open and %d tables mapped, want %d and %d", open, left, first, tables)
	}
}
