package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
)

// Whichever single operation of the disk fails, its error reaches a caller;
// everything written can still be read; once the disk works again, the next Sync
// makes all of it durable, unless a Datasync failed: then no later one pretends
// otherwise, that of a writer which opens the store again included, and the store
// is as it was at the last Sync, or newer. A write that fails may have been done in
// part.
func TestFaults(t *testing.T) {
	faults(t, someRuns(3, 6, 30), func(r *rand.Rand) []step {
		small := stepMaker{r: r, frame: 450, frames: 2, weights: faultWeights}
		large := stepMaker{r: r, frame: MinFrameSize, frames: 10, weights: faultWeights}
		return append(small.steps(10), large.steps(30)...)
	})
}

var faultWeights = []weight{{"write", 6}, {"frames", 3}, {"truncate", 2}, {"punch", 2}, {"commit", 2}, {"sync", 5}, {"checkpoint", 1}}

// The same holds for a compaction; but a full disk may be worked around, and
// what can only not be punched is not missed.
func TestCompactFaults(t *testing.T) {
	faults(t, someRuns(1, 1, 12), func(r *rand.Rand) []step {
		m := stepMaker{r: r, frame: MinFrameSize, frames: 22, weights: []weight{{"write", 10}, {"punch", 6}}}
		steps := append([]step{{what: "write", n: 24 * MinFrameSize, seed: 1}, {what: "sync"}}, m.steps(16)...)
		return append(steps, step{what: "sync"}, step{what: "compact", codec: codec.Zstd})
	})
}

// faults makes so many sequences of steps, and repeats each with every single
// operation failing in turn.
func faults(t *testing.T, runs int, make func(r *rand.Rand) []step) {
	places := map[string]int{}
	for i := range runs {
		seed, kind := randomSeed(t), faultKinds[i%len(faultKinds)]
		for n := 2; ; n += someRuns(3, 1, 1) {
			h := &faultHarness{t: t, at: n, faultKind: kind, steps: make(rand.New(rand.NewPCG(seed, 3)))}
			if !h.run() {
				break
			}
			places[kind.name]++
		}
	}
	t.Logf("places to fail: %v", places)
}

// A faultKind is a way in which an operation fails.
type faultKind struct {
	name string
	err  error
	part bool // a write was done in part
}

var faultKinds = []faultKind{{"EIO", unix.EIO, false}, {"ENOSPC", unix.ENOSPC, false}, {"short write", unix.ENOSPC, true}}

type faultHarness struct {
	t     *testing.T
	at    int // the operation that fails
	steps []step
	faultKind
	hit  bool
	d    *simDisk
	s    *Store
	log  []string
	want *plainFile
	safe *plainFile // what the last completed Sync held
	past []*plainFile
}

// run reports whether the operation to fail came.
func (h *faultHarness) run() bool {
	h.d, h.want = &simDisk{short: h.part}, newPlainFile(nil)
	var err error
	h.s, err = createDisk(h.d, nil, CreateOptions{FrameSize: MinFrameSize, DirtyBytes: 3 * MinFrameSize})
	must(h.t, err)
	h.do(step{what: "sync"}) // What comes before is nobody's yet.
	h.d.fail = func(n int) error {
		if n != h.at {
			return nil
		}
		h.hit = true
		return h.err
	}
	for _, st := range h.steps {
		if h.do(st); h.s == nil {
			return h.hit
		}
		h.holds(h.s, h.want)
		if err := firstError(h.s.spaceFault(), h.s.owedFault()); err != nil {
			h.failf("%v", err)
		}
	}
	h.finish()
	return h.hit
}

func (h *faultHarness) failf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("operation %d fails with %s: %s\n%v", h.at, h.name, fmt.Sprintf(format, args...), h.log)
}

func (h *faultHarness) holds(s *Store, want *plainFile) {
	h.t.Helper()
	if diff := want.diff(s); diff != "" {
		h.failf("%s", diff)
	}
}

// do does a step, which may fail once. What a commit is to hold may be found from
// then on, also when it fails.
func (h *faultHarness) do(st step) {
	h.t.Helper()
	h.past = append(h.past, h.want.clone())
	err := st.do(h.s, h.want)
	h.s.flusher.Wait()
	err = h.expect(st, err)
	if h.s.failed != nil {
		if err == nil && st.what == "sync" {
			h.failf("Sync succeeds after a Datasync failed")
		}
		h.lost()
		return
	}
	if err != nil || st.what != "sync" {
		return
	}
	h.safe, h.past = h.want.clone(), nil
	s, err := openDisk(diskWith(h.d.durable), nil, Options{})
	if err != nil {
		h.failf("open after Sync and a power cut: %v", err)
	}
	h.holds(s, h.safe)
}

// expect lets the fault through once, and no other error.
func (h *faultHarness) expect(what any, err error) error {
	h.t.Helper()
	h.log = append(h.log, fmt.Sprintf("%v: %v", what, err))
	if err != nil && !errors.Is(err, h.err) {
		h.failf("%v, want the disk's error", err)
	}
	if err != nil && !h.hit {
		h.failf("%v before any fault", err)
	}
	return err
}

// lost is the end after a failed Datasync: this Store changes nothing any more, and
// what the next one finds is on the disk.
func (h *faultHarness) lost() {
	for range 2 {
		if h.s.Sync() == nil {
			h.failf("Sync succeeds after a Datasync failed")
		}
	}
	h.holds(h.s, h.want)
	if _, err := h.s.WriteAt([]byte("x"), 0); err == nil {
		h.failf("WriteAt succeeds after a Datasync failed")
	}
	h.s.Discard()
	s, err := openDisk(h.d, nil, Options{Writable: true})
	if err != nil {
		h.failf("open again: %v", err)
	}
	found := h.among(s, append(h.past, h.safe, h.want))
	if err := s.Close(); err != nil {
		h.failf("close again: %v", err)
	}
	s, err = openDisk(diskWith(h.d.durable), nil, Options{})
	if err != nil {
		h.failf("open after a failed Datasync, another writer and a power cut: %v", err)
	}
	h.holds(s, found)
	h.s = nil
}

// among returns the one of all that s holds.
func (h *faultHarness) among(s *Store, all []*plainFile) *plainFile {
	h.t.Helper()
	var diff string
	for _, p := range all {
		if diff = p.diff(s); diff == "" {
			return p
		}
	}
	h.failf("what is found is nothing that there was: %s", diff)
	return nil
}

// finish closes the store, which may fail once, and opens it again.
func (h *faultHarness) finish() {
	h.t.Helper()
	err := h.expect("close", h.s.Close())
	s, again := openDisk(h.d, nil, Options{Writable: true})
	if again != nil && errors.Is(again, h.err) {
		s, again = openDisk(h.d, nil, Options{Writable: true})
	}
	if again != nil {
		h.failf("open again: %v", again)
	}
	if err == nil {
		h.holds(s, h.want)
	} else {
		h.among(s, append(h.past, h.safe, h.want))
	}
	if err := s.Check(context.Background(), func(d *DamageError) { h.failf("%v", d) }, nil); err != nil {
		h.failf("check: %v", err)
	}
	if h.expect("close", s.Close()) != nil {
		return
	}
	s, again = openDisk(diskWith(h.d.durable), nil, Options{})
	if again != nil {
		h.failf("open after a power cut: %v", again)
	}
	if err == nil {
		h.holds(s, h.want)
	}
}
