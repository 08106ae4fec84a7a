package store

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// wideLeaves are more than the index keeps in memory, and more than a log may
// concern.
const wideLeaves = max(keptNodes, maxLogLeaves) + 300

// wideStore forges a store of an index of three levels, of which wideLeaves leaves
// have two frames each, and returns the numbers of these.
func wideStore() (image []byte, frames []int64) {
	f := newForge()
	var leaves [wideLeaves][2]entry
	for i := range leaves {
		for j := range leaves[i] {
			n := int64(i)*fanout + int64(j)
			leaves[i][j] = f.frame(kindLZ4, n, text(4096, "frame "))
			frames = append(frames, n)
		}
	}
	var upper, kids []entry
	for i := range leaves {
		kids = append(kids, f.node(0, int64(i)*fanout, leaves[i][:]...))
		if len(kids) == fanout || i == wideLeaves-1 {
			upper, kids = append(upper, f.node(1, int64(len(upper))*fanout*fanout, kids...)), nil
		}
	}
	return f.root(2, f.node(2, 0, upper...), wideLeaves*fanout<<12).image(), frames
}

func (x *index) loaded(n *node) int {
	count := 1
	for i := range n.kids {
		if kid := n.kids[i].Load(); kid != nil {
			count += x.loaded(kid)
		}
	}
	return count
}

// However much is cut off or punched at once, few nodes of the index are in memory
// for it, in who does it and in who replays it from the log; and a log that would
// take long to replay is not written.
func TestClearMemory(t *testing.T) {
	alone(t)
	image, _ := wideStore()
	const kept = keptNodes + 10
	cuts := map[string]func(s *Store) error{
		"truncate": func(s *Store) error { return s.Truncate(5000) },
		"punch":    func(s *Store) error { return s.Punch(100, wideLeaves*fanout<<12-fanout<<12-4096) },
	}
	for what, cut := range cuts {
		for _, logged := range []bool{true, false} {
			d := diskWith(image)
			s, err := openDisk(d, nil, Options{Writable: true})
			must(t, err)
			must(t, cut(s))
			if n := s.idx.loaded(s.idx.root); n > kept {
				t.Errorf("%s: %d nodes are in memory, want at most %d", what, n, kept)
			}
			if n := len(s.limbo); n > 10 {
				t.Errorf("%s: %d extents are kept for readers, want them put together", what, n)
			}
			if logged {
				s.clearedLeaves = 0
			}
			must(t, s.Sync())
			if got := len(s.logBlocks) > 0; got != logged {
				t.Errorf("%s: the commit is in the log: %v, want %v", what, got, logged)
			}
			must(t, s.spaceFault())
			for _, writable := range []bool{false, true} {
				again, err := openDisk(diskWith(d.now), nil, Options{Writable: writable})
				must(t, err)
				if n := again.idx.loaded(again.idx.root); n > kept {
					t.Errorf("%s: %d nodes are in memory after opening, want at most %d", what, n, kept)
				}
				if again.frames != s.frames || again.stored != s.stored || again.frames > 4 {
					t.Errorf("%s: opens with %d frames of %d bytes, want %d of %d", what, again.frames, again.stored, s.frames, s.stored)
				}
				if faults := checked(t, again); len(faults) > 0 {
					t.Errorf("%s: check finds %v", what, faults)
				}
			}
		}
	}
}

// Whatever ranges are punched from an index of several levels, exactly the frames
// in them become holes, at once and when the store is opened again.
func TestClearModel(t *testing.T) {
	alone(t)
	image, frames := wideStore()
	r := rand.New(rand.NewPCG(randomSeed(t), 1))
	d := diskWith(image)
	s, err := openDisk(d, nil, Options{Writable: true})
	must(t, err)
	left := map[int64]bool{}
	for _, n := range frames {
		left[n] = true
	}
	for i := range 40 {
		from := frames[r.IntN(len(frames))] + r.Int64N(2)
		to := from + 1 + r.Int64N(1<<r.IntN(16))*(1+r.Int64N(20))
		must(t, s.Punch(from<<12, (to-from)<<12))
		maps.DeleteFunc(left, func(n int64, _ bool) bool { return from <= n && n < to })
		switch r.IntN(8) {
		case 0:
			must(t, s.Sync())
		case 1:
			must(t, s.checkpointNow())
		case 2: // Killed.
			must(t, s.Commit())
			s, err = openDisk(diskWith(d.now), nil, Options{Writable: true})
			must(t, err)
			d = s.d.(*simDisk)
		case 3:
			n := frames[r.IntN(len(frames))]
			must(t, s.WriteFrame(n, text(4096, "again ")))
			left[n] = true
		}
		if i%10 == 9 {
			must(t, s.spaceFault())
		}
		var found []int64
		must(t, s.idx.scan(0, wideLeaves*fanout, func(n int64, _ entry) bool {
			found = append(found, n)
			return true
		}))
		if want := slices.Sorted(maps.Keys(left)); !slices.Equal(found, want) || s.frames != int64(len(want)) {
			t.Fatalf("frames %d to %d punched: %d are left, want %d", from, to, len(found), len(want))
		}
	}
	if faults := checked(t, s); len(faults) > 0 {
		t.Errorf("check finds %v", faults)
	}
}

// A part of the index that can't be read makes Truncate and Punch fail before they
// change anything.
func TestClearDamaged(t *testing.T) {
	image, frames := wideStore()
	s, err := openImage(image)
	must(t, err)
	mid, err := s.idx.kid(s.idx.root, 1)
	must(t, err)
	leaf := mid.entries[7].off()
	d := diskWith(image)
	s, err = openDisk(d, nil, Options{Writable: true})
	must(t, err)
	must(t, s.ExpectWrites()) // Which reads all of it.
	d.now[leaf] ^= 1
	for _, err := range []error{s.Truncate(4096), s.Punch(0, s.Size())} {
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%v, want ErrDamaged", err)
		}
	}
	if s.frames != int64(len(frames)) || s.changes || len(s.limbo) > 0 || s.Size() != wideLeaves*fanout<<12 {
		t.Errorf("%d frames are left, size %d, changes %v, want all as it was", s.frames, s.Size(), s.changes)
	}
}

// A store whose index is damaged takes no write, since its free space can't be told
// from what is in use: it says so each time, its whole parts read as ever, and the
// file stays as it is.
func TestNoSpaceKnown(t *testing.T) {
	image, frames := wideStore()
	s, err := openImage(image)
	must(t, err)
	mid, err := s.idx.kid(s.idx.root, 1)
	must(t, err)
	image[mid.entries[7].off()] ^= 1
	d := diskWith(image)
	s, err = openDisk(d, nil, Options{Writable: true})
	must(t, err)
	for range 2 {
		_, err := s.WriteAt(text(4096, "new "), 0)
		for what, err := range map[string]error{"write": err, "expect": s.ExpectWrites(), "frame": s.WriteFrame(0, text(4096, "new ")), "truncate": s.Truncate(4096)} {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %v, want ErrDamaged", what, err)
			}
		}
		if s.space != nil {
			t.Error("free space is known all the same")
		}
	}
	got := make([]byte, 4096)
	for _, n := range []int64{frames[0], frames[len(frames)-1]} {
		if _, err := s.ReadAt(got, n<<12); err != nil || !bytes.Equal(got, text(4096, "frame ")) {
			t.Errorf("frame %d: %v, or wrong bytes", n, err)
		}
	}
	must(t, s.Close())
	if !bytes.Equal(d.now, image) {
		t.Error("the file is changed")
	}
}

// Where a full disk has no room for a checkpoint, what was punched is committed by
// the log, however much it is.
func TestClearFullDisk(t *testing.T) {
	alone(t)
	image, _ := wideStore()
	d := diskWith(image)
	s, err := openDisk(d, nil, Options{Writable: true})
	must(t, err)
	must(t, s.Punch(0, wideLeaves*fanout<<12-fanout<<12-4096))
	full := 2 // times: a node, and when it is put where room is reserved
	d.fail = func(int) error {
		if full == 0 {
			return nil
		}
		full--
		return unix.ENOSPC
	}
	must(t, s.Sync())
	if full > 0 || len(s.logBlocks) == 0 {
		t.Errorf("%d log blocks, the disk was to be full %d times more; want a commit in the log", len(s.logBlocks), full)
	}
	must(t, s.spaceFault())
	again, err := openImage(d.durable)
	must(t, err)
	if again.frames != s.frames || again.Generation() != s.Generation() {
		t.Errorf("opens with %d frames in generation %d, want %d in %d", again.frames, again.Generation(), s.frames, s.Generation())
	}
	must(t, s.Close())
}

// Nodes of the index that were changed are let go after a checkpoint, as others are.
func TestChangedNodesAreLetGo(t *testing.T) {
	s, err := createDisk(&simDisk{}, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	for leaf := range int64(4 * keptNodes) {
		mustWrite(t, s, []byte("x"), leaf*fanout*MinFrameSize)
	}
	must(t, s.Sync())
	must(t, s.checkpointNow())
	if n := s.idx.loaded(s.idx.root); n > keptNodes+20 {
		t.Errorf("%d nodes are in memory, want about %d", n, keptNodes)
	}
}

// All frames that a store can have become holes at once, and the log tells it.
func TestClearLargest(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	for _, off := range []int64{0, MaxSize - 1} {
		mustWrite(t, s, []byte("x"), off)
	}
	must(t, s.Sync())
	must(t, s.Punch(0, MaxSize))
	must(t, s.Sync())
	if len(s.logBlocks) == 0 {
		t.Fatal("the log is not used")
	}
	mustWrite(t, s, []byte("later"), 0)
	must(t, s.Sync())
	r, err := openDisk(diskWith(d.durable), nil, Options{})
	must(t, err)
	if r.Generation() != s.Generation() {
		t.Errorf("opens as generation %d, want %d", r.Generation(), s.Generation())
	}
	if end, err := r.SeekHole(0); err != nil || end != MinFrameSize {
		t.Errorf("the first hole is at %#x, %v, want %#x", end, err, MinFrameSize)
	}
	if at, err := r.SeekData(MinFrameSize); err != io.EOF {
		t.Errorf("there is data at %#x, %v, want none", at, err)
	}
}
