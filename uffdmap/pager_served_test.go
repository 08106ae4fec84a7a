package uffdmap

import (
	"math/rand/v2"
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
