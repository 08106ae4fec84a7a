package uffdmap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// However huge pages come into a mapping, by moving or, where the kernel can't, by
// copying, its bytes are the store's, they can't be written, and frames beside a
// damaged one are there.
func TestHugePages(t *testing.T) {
	const frame, size, bad = 16 << 10, 16 << 20, 300
	want := plainBytes(newRand(t), size+5*frame/2)
	clear(want[4*hugeSize : 5*hugeSize])
	copy(want[bad*frame:], bytes.Repeat([]byte("something"), 100))
	path := newStore(t, want, frame)
	damageFrame(t, path, bad)
	for _, mask := range []string{"", "move"} {
		t.Run("mask="+mask, func(t *testing.T) {
			t.Setenv(uffd.MaskEnv, mask)
			v := openView(t, path, Options{})
			u, err := uffd.Open(0, uffd.FeatureMove)
			must(t, "open userfaultfd", err)
			defer u.Close()
			if moves := u.Features()&uffd.FeatureMove != 0; v.movable() != moves {
				t.Errorf("huge pages are moved: %v, the kernel moves: %v", v.movable(), moves)
			}
			var all sync.WaitGroup
			for _, from := range []int64{0, 3 * hugeSize} {
				all.Go(func() { walkThrough(t, v, want, from, bad*frame) })
			}
			all.Wait()
			if _, err := v.View(bad*frame, 1); !errors.Is(err, ErrDamaged) {
				t.Errorf("view of the damaged frame: %v, want ErrDamaged", err)
			}
			if v.movable() && !readOnly(t, v.mem.addr+6*hugeSize) {
				t.Error("a moved page stays writable")
			}
			s, err := v.View(6*hugeSize, frame)
			must(t, "view", err)
			defer s.Release()
			if !writeTraps(s.Bytes()) {
				t.Error("write to a read-only mapping does not trap")
			}
		})
	}
}

// A huge page that the kernel moves in part only comes in by copying.
func TestHugePageMovedInPart(t *testing.T) {
	want := bytes.Repeat([]byte("lazy"), hugeSize/4)
	v := openView(t, newStore(t, want, 16<<10), Options{})
	p := &hugePiece{v: v}
	for n := int64(0); n < v.hugeFrames(); n += v.chunk() {
		p.decode(n, v.chunk())
	}
	must(t, "take a page away", p.buf.drop(p.buf.b[hugeSize/2:hugeSize/2+store.PageSize]))
	if p.move() {
		t.Error("a page that is not there was moved")
	}
	s, err := v.View(0, hugeSize)
	must(t, "view", err)
	defer s.Release()
	same(t, "view", s.Bytes(), want)
}

// walkThrough views the mapping piece by piece, from an offset to its end.
func walkThrough(t *testing.T, v *Viewer, want []byte, from, bad int64) {
	const piece = 64 << 10
	for at := from; at < v.Size(); at += piece {
		n := min(piece, v.Size()-at)
		s, err := v.View(at, n)
		if at <= bad && bad < at+n {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("view at %#x: %v, want ErrDamaged", at, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("view at %#x: %v", at, err)
			continue
		}
		if !bytes.Equal(s.Bytes(), want[at:at+n]) {
			t.Errorf("view at %#x: the bytes are wrong", at)
		}
		s.Release()
	}
}

// readOnly says whether the memory at addr is mapped for reading only.
func readOnly(t *testing.T, addr uintptr) bool {
	b, err := os.ReadFile("/proc/self/maps")
	must(t, "read maps", err)
	for line := range strings.Lines(string(b)) {
		var from, end uintptr
		var prot string
		fmt.Sscanf(line, "%x-%x %s", &from, &end, &prot)
		if from <= addr && addr < end {
			return prot == "r--p"
		}
	}
	return false
}

// Zeros that are walked through take no memory.
func TestHugeZeros(t *testing.T) {
	v := openView(t, newStore(t, make([]byte, 32<<20), 16<<10), Options{})
	before := anonymous(t)
	for at := int64(0); at < v.Size(); at += 64 << 10 {
		s, err := v.View(at, 64<<10)
		must(t, "view", err)
		s.Release()
	}
	if grown := anonymous(t) - before; grown > 16<<20 {
		t.Errorf("32 MiB of zeros take %d bytes", grown)
	}
}

// anonymous is the anonymous memory of this process in bytes.
func anonymous(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/status")
	must(t, "read status", err)
	_, rest, _ := strings.Cut(string(b), "RssAnon:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("read status: %v", err)
	}
	return kib << 10
}
