package uffdmap

import (
	"fmt"
	"slices"
	"testing"

	"lazyfs/store"
)

// Who asks for a frame that is locked hears of it once when that is free, and who
// waits for it gets it.
func TestLockOrAsk(t *testing.T) {
	var heard []int64
	l := newLockSet(func(n int64) { heard = append(heard, n) })
	l.lock(5)
	for range 2 {
		if l.lockOrAsk(5) {
			t.Fatal("frame 5 is locked twice")
		}
	}
	if !l.lockOrAsk(6) {
		t.Fatal("frame 6 can't be locked, though nobody holds it")
	}
	l.unlock(6)
	if heard != nil {
		t.Errorf("heard of %v before anything asked for was free", heard)
	}
	l.unlock(5)
	l.lock(5)
	l.unlock(5)
	if want := []int64{5}; !slices.Equal(heard, want) {
		t.Errorf("heard of %v, want %v", heard, want)
	}
}

// Runs come in order, each frame once, in pieces that end where a multiple of the
// most frames does.
func TestRuns(t *testing.T) {
	runs := joinRuns([]frameRun{{40, 41}, {3, 9}, {9, 12}, {0, 2}, {5, 6}, {40, 43}})
	if want := []frameRun{{0, 2}, {3, 12}, {40, 43}}; !slices.Equal(runs, want) {
		t.Fatalf("joined: %v, want %v", runs, want)
	}
	pieces := cutRuns(runs, 4)
	if want := []frameRun{{0, 2}, {3, 4}, {4, 8}, {8, 12}, {40, 43}}; !slices.Equal(pieces, want) {
		t.Errorf("cut: %v, want %v", pieces, want)
	}
}

func init() { bodies["prefetched"] = prefetchedBody }

// prefetchedBody asks for pieces of a mapping in disorder, some of them twice, from
// two goroutines, and wants those and no others resident.
func prefetchedBody(args []string) error {
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	const frame = 16 << 10
	var ranges []Range
	for n := int64(0); n < m.Size()/frame; n += 2 {
		ranges = append(ranges, Range{n*frame + 5, 1})
	}
	slices.Reverse(ranges)
	ranges = append(ranges, ranges[3:9]...)
	done := make(chan error)
	for range 2 {
		go func() { done <- m.Prefetch(ranges...) }()
	}
	for range 2 {
		if err := <-done; err != nil {
			return err
		}
	}
	next := int64(0)
	for r := range m.Resident() {
		if r != (Range{next, frame}) {
			return fmt.Errorf("resident is %v, want %v", r, Range{next, frame})
		}
		next += 2 * frame
	}
	if next != m.Size() {
		return fmt.Errorf("resident ends before %#x, want %#x", next, m.Size())
	}
	if s := m.Stats(); s.Frames != m.Size()/frame/2 {
		return fmt.Errorf("%d frames were read, want %d", s.Frames, m.Size()/frame/2)
	}
	return m.Close()
}

// A Prefetch brings in what it names and reads each frame once, however the ranges
// lie and whoever else asks.
func TestPrefetchManyRanges(t *testing.T) {
	path := pack(t, content(4<<20, 40), store.CreateOptions{})
	run(t, command("prefetched", path), tooLong)
}

// What is read one frame after the other comes ahead, and what is asked for does not.
func TestMapAheadCounts(t *testing.T) {
	data := content(4<<20, 77)
	path := pack(t, data, store.CreateOptions{})
	asked := mustMap(t, path, Options{})
	must(t, "prefetch", asked.Prefetch(Range{0, asked.Size()}))
	if s := asked.Stats(); s.Ahead != 0 || s.Frames == 0 {
		t.Errorf("%d of %d frames came ahead of a Prefetch of all", s.Ahead, s.Frames)
	}
	read := mustMap(t, path, Options{})
	same(t, "mapping", read.Bytes(), data)
	if s := read.Stats(); s.Ahead == 0 || s.Ahead > s.Frames {
		t.Errorf("%d of %d frames came ahead of a reader", s.Ahead, s.Frames)
	}
}
