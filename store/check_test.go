package store

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// Check finds nothing in a store that is being written, wherever it is cut: what is
// cut off the last frame is known, though not yet on disk.
func TestCheckBeforeCommit(t *testing.T) {
	const frame = MinFrameSize
	s, err := createDisk(&simDisk{}, nil, CreateOptions{FrameSize: frame})
	must(t, err)
	mustWrite(t, s, noise(10*frame, 1), 0)
	must(t, s.Sync())
	for _, size := range []int64{9*frame + 5, 9 * frame, 9*frame - 1, 100, 5 * frame, 0} {
		must(t, s.Truncate(size))
		for _, d := range checked(t, s) {
			t.Errorf("cut to %#x: %v", size, d)
		}
		must(t, s.Commit())
		for _, d := range checked(t, s) {
			t.Errorf("committed with %#x bytes: %v", size, d)
		}
	}
}

// Check finds what lies behind the end that the superblock says, but for what a log
// names.
func TestCheckEnd(t *testing.T) {
	for _, c := range []struct {
		name      string
		end       func(root, leaf entry) int64
		log, want bool
	}{
		{"whole", func(_, leaf entry) int64 { return leaf.extent().end() }, false, false},
		{"leaf behind the end", func(_, leaf entry) int64 { return leaf.off() }, false, true},
		{"frames behind the end", func(root, _ entry) int64 { return root.extent().end() }, false, true},
		{"frame of the log", func(_, leaf entry) int64 { return leaf.extent().end() }, true, false},
	} {
		f := newForge()
		root := f.node(1, 0, entry{1, 1}) // Its place.
		leaf := f.node(0, 0, f.frame(kindLZ4, 0, text(4096, "a")), f.frame(kindLZ4, 1, text(4096, "b")))
		all := f.b
		f.b = all[:root.off()]
		root = f.node(1, 0, leaf)
		f.b = all
		f.root(1, root, 3*4096).sb.end = c.end(root, leaf)
		if c.log {
			two := f.put(kindLZ4, 2, encoded(kindLZ4, text(4096, "c")), 4096)
			f.log(logBlock{gen: 4, size: 3 * 4096, end: true, ops: []logOp{{opSet, 2, two}}})
		}
		s, err := openImage(f.image())
		must(t, err)
		if found := checked(t, s); (len(found) > 0) != c.want || c.want && !strings.Contains(found[0].Detail, "lies behind it") {
			t.Errorf("%s: check finds %v", c.name, found)
		}
	}
}

// Who is told of a damage may use the store, and change it, before Check goes on.
func TestCheckReportUsesStore(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(3*MinFrameSize, 1), 0)
	must(t, s.Sync())
	e, err := s.idx.lookup(1)
	must(t, err)
	d.now[e.off()+frameHeadLen] ^= 1
	reports := 0
	must(t, s.Check(context.Background(), func(d *DamageError) {
		reports++
		if !s.mu.TryLock() {
			t.Fatal("the store is locked while a damage is reported")
		}
		s.mu.Unlock()
		must(t, s.Punch(d.Plain.Off, d.Plain.Len))
	}, nil))
	if found := checked(t, s); reports != 1 || len(found) > 0 {
		t.Errorf("%d damages are reported, and %v when what is damaged is a hole", reports, found)
	}
}

// The plain bytes that a damage is said to concern are bytes of the store, or none.
func TestDamageBehindTheEnd(t *testing.T) {
	for _, far := range []int64{1 << 20, 1 << 43, 1 << 44, 1<<44 + 1<<30} {
		f := newForge()
		f.sb.frameShift = 20
		near := f.node(0, 0, f.frame(kindLZ4, 0, text(MaxFrameSize, "near ")))
		ghost := f.node(0, far, f.frame(kindLZ4, far, text(MaxFrameSize, "far ")))
		f.b[ghost.off()+frameHeadLen] ^= 1
		for level := 1; level < maxDepth; level++ {
			slot := far >> (level * fanoutBits) & (fanout - 1)
			first := far &^ (1<<((level+1)*fanoutBits) - 1)
			entries := make([]entry, slot+1)
			entries[slot] = ghost
			if first == 0 && slot > 0 {
				entries[0] = near
			}
			if ghost = f.node(level, first, entries...); first > 0 {
				near = f.node(level, 0, near)
			}
		}
		s, err := openImage(f.root(maxDepth-1, ghost, MaxFrameSize+1).image())
		must(t, err)
		found := checked(t, s)
		if len(found) == 0 {
			t.Errorf("frame %#x: nothing is found", far)
		}
		for _, d := range found {
			if d.Plain.Off < 0 || d.Plain.Len < 0 || d.Plain.Off+d.Plain.Len > s.Size() {
				t.Errorf("frame %#x: %v concerns %+v, the store has %d bytes", far, d, d.Plain, s.Size())
			}
		}
	}
}

// A superblock that counts other frames than there are, or other bytes of them, is damaged.
func TestCheckCounts(t *testing.T) {
	for _, more := range [][2]int64{{1, 0}, {-1, 0}, {0, unit}, {0, -unit}} {
		f := newForge()
		f.leaf(f.frame(kindRaw, 0, noise(MinFrameSize, 1)))
		f.sb.frames += more[0]
		f.sb.stored += more[1]
		s, err := openImage(f.image())
		must(t, err)
		if damage := checked(t, s); len(damage) != 1 || damage[0].Part != "superblock" {
			t.Errorf("%d frames and %d bytes more are counted: check finds %v, want one damage of the superblock", more[0], more[1], damage)
		}
	}
}

// Where the disk fails at a frame Check goes on, and reports all that is damaged.
func TestCheckReadFails(t *testing.T) {
	f := newForge()
	var entries []entry
	for n := range int64(300) {
		entries = append(entries, f.frame(kindRaw, n, noise(MinFrameSize, 1)))
	}
	image := f.leaf(entries...).image()
	image[entries[290].off()+frameHeadLen] ^= 1
	d := &brokenDisk{diskWith(image), span{entries[3].off() + 100, entries[5].off()}}
	s, err := openDisk(d, nil, Options{})
	must(t, err)
	var damaged []Range
	for _, d := range checked(t, s) {
		damaged = append(damaged, d.Plain)
	}
	if want := frameRanges(3, 4, 290); !slices.Equal(damaged, want) {
		t.Errorf("check finds damage of %v, want %v", damaged, want)
	}
}
