package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
)

// Frames that share bytes are each whole, so that reading gives what they say;
// Check reports them, and a writer refuses to go on.
func TestOverlappingExtents(t *testing.T) {
	f := newForge()
	inner := make([]byte, frameHeadLen, 1000)
	inner = append(inner, text(300, "inner ")...)
	sum := putFrameHead(inner, f.idSum, kindRaw, 1, 3)
	outer := f.count(f.put(kindRaw, 0, append(inner, text(100, "outer ")...), len(inner)+100))
	e := f.count(newEntry(outer.off()+frameHeadLen, 300, kindRaw, 300, sum))
	image := f.leaf(outer, e).image()
	s, err := openImage(image)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadAt(make([]byte, 8192), 0); err != nil {
		t.Errorf("read: %v", err)
	}
	if d := checked(t, s); len(d) != 1 || d[0].Part != "index" {
		t.Errorf("check finds %v, want one damage of the index", d)
	}
	useStore(t, "overlap", s)
	w, err := openDisk(diskWith(image), nil, Options{Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.WriteAt([]byte("x"), 0)
	if err = firstError(err, w.Sync()); !errors.Is(err, ErrDamaged) {
		t.Errorf("write into a store with overlaps: %v, want ErrDamaged", err)
	}
}

// Offsets and sizes near the ends of their ranges give errors, never panics, and
// leave the store as it was.
func TestExtremeOffsets(t *testing.T) {
	s, err := openDisk(diskWith(oneEntry(func(*entry) {}).image()), nil, Options{Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Truncate(8192); err != nil {
		t.Fatal(err)
	}
	offs := []int64{math.MinInt64, -1, 1 << 46, 1 << 50, 1 << 52, 1<<60 - 1, 1 << 60, 1<<60 + 1, 1 << 62, math.MaxInt64 - 4096, math.MaxInt64}
	buf, frame := make([]byte, 100), make([]byte, 4096)
	for _, off := range offs {
		if n, err := s.ReadAt(buf, off); n != 0 || err == nil {
			t.Errorf("read at %#x: %d bytes, %v, want an error", off, n, err)
		}
		if n, err := s.WriteAt(buf, off); (off < 0 || off > MaxSize-100) && (n != 0 || !errors.Is(err, ErrTooLarge)) {
			t.Errorf("write at %#x: %d bytes, %v, want ErrTooLarge", off, n, err)
		}
		if err := s.Truncate(off); (off < 0 || off > MaxSize) != errors.Is(err, ErrTooLarge) {
			t.Errorf("truncate to %#x: %v", off, err)
		}
		if err := s.Truncate(8192); err != nil {
			t.Errorf("truncate back from %#x: %v", off, err)
		}
		if err := s.Punch(off, math.MaxInt64); (off < 0) != (err != nil) {
			t.Errorf("punch at %#x: %v", off, err)
		}
		if err := s.Punch(100, off); (off < 0) != (err != nil) {
			t.Errorf("punch of %#x bytes: %v", off, err)
		}
		if _, err := s.ReadFrame(off, frame); err == nil {
			t.Errorf("read of frame %#x: no error", off)
		}
		if err := s.WriteFrame(off, frame); err == nil {
			t.Errorf("write of frame %#x: no error", off)
		}
		if i, err := s.FrameInfo(off); err != nil || i.Kind != "hole" {
			t.Errorf("frame %#x is %v, %v, want a hole", off, i, err)
		}
		if _, err := s.SeekData(off); err != io.EOF {
			t.Errorf("data from %#x: %v, want EOF", off, err)
		}
		if _, err := s.SeekHole(off); err != io.EOF {
			t.Errorf("hole from %#x: %v, want EOF", off, err)
		}
	}
	if err := s.Sync(); err != nil || s.Size() != 8192 {
		t.Errorf("afterwards: size %d, sync %v, want 8192", s.Size(), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Check(ctx, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled check: %v", err)
	}
}

// A walk over an index keeps a bounded number of nodes in memory, of every level:
// on disk a node may take 40 bytes, in memory it takes 16 KiB and more.
func TestIndexMemory(t *testing.T) {
	f := newForge()
	var kids []entry
	for i := range int64(fanout) {
		first := i * fanout * fanout
		kids = append(kids, f.node(1, first, f.node(0, first, zeroEntry)))
	}
	image := f.root(2, f.node(2, 0, kids...), MaxSize).image()
	s, err := openImage(image)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info()
	if err != nil || info.Frames["zero"] != fanout {
		t.Fatalf("info gives %v, %v, want %d zero frames", info.Frames, err, fanout)
	}
	loaded := 0
	for i := range s.idx.root.kids {
		if kid := s.idx.root.kids[i].Load(); kid != nil {
			loaded++
			if kid.kids[0].Load() != nil {
				loaded++
			}
		}
	}
	if loaded > keptNodes {
		t.Errorf("%d nodes are in memory, want at most %d", loaded, keptNodes)
	}
}

// What a store holds behind its end would show when it grows: Check reports it.
func TestCheckBehindEnd(t *testing.T) {
	for _, size := range []int64{4096, 4097, 8191} {
		f := newForge()
		f.leaf(f.frame(kindLZ4, 0, text(4096, "fine ")), f.frame(kindLZ4, 1, text(4096, "behind ")))
		f.sb.size = size
		s, err := openImage(f.image())
		if err != nil {
			t.Fatal(err)
		}
		if d := checked(t, s); len(d) != 1 || d[0].Part != "frame 1" {
			t.Errorf("size %d: check finds %v, want that frame 1 is too long", size, d)
		}
	}
}

// A file that ends before its superblock says is refused when it is opened, also
// where nothing that opening reads is missing.
func TestCutBehindRoot(t *testing.T) {
	f := newForge()
	f.b = append(f.b, make([]byte, frameHeadLen+entryLen)...)
	e := f.frame(kindLZ4, 0, text(4096, "fine "))
	n := newForge()
	f.root(0, n.node(0, 0, e), 4096)
	copy(f.b[dataStart:], n.b[dataStart:])
	image := f.image()
	if s, err := openImage(image); err != nil || len(checked(t, s)) > 0 {
		t.Fatalf("whole: %v", err)
	}
	for n := e.off(); n < int64(len(image)); n++ {
		if _, err := openImage(image[:n:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %#x bytes of %#x: open gives %v, want ErrDamaged", n, len(image), err)
		}
	}
}

// A writer takes a store that counts its frames wrongly, and leaves one that counts
// them right.
func TestWrongCounts(t *testing.T) {
	for _, counted := range []int64{0, 1 << 30, math.MaxInt64} {
		for _, logged := range []bool{false, true} {
			f := newForge()
			entries := make([]entry, 100)
			for n := range entries {
				entries[n] = f.frame(kindLZ4, int64(n), text(4096, "fine "))
			}
			f.leaf(entries...)
			f.sb.frames = counted
			if logged {
				f.log(logBlock{gen: 4, size: f.sb.size, durable: 3, end: true, ops: []logOp{{opClear, 0, entry{place: 100}}}})
			}
			name := fmt.Sprintf("%d counted, with a log: %v", counted, logged)
			d := diskWith(f.image())
			s, err := openDisk(d, nil, Options{Writable: true})
			must(t, err)
			mustWrite(t, s, []byte("changed"), 50<<12)
			must(t, s.Truncate(99<<12))
			must(t, s.Close())
			s, err = openDisk(d, nil, Options{})
			must(t, err)
			if damage := checked(t, s); len(damage) > 0 {
				t.Errorf("%s: check finds %v, want nothing", name, damage)
			}
		}
	}
}
