package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"lazyfs/codec"
)

// Wherever the power is cut while a store is created, written, cut, punched,
// committed, compacted, closed and opened again, it opens with exactly what the
// last completed Sync or a later commit held; Check finds nothing; and once it was
// opened for writing, opening it again writes nothing.
func TestCrash(t *testing.T) {
	crashes(t, someRuns(2, 95, 400), func(r *rand.Rand) crashRun {
		m := stepMaker{r: r, frame: MinFrameSize, frames: 12, weights: []weight{{"write", 18}, {"frames", 6}, {"truncate", 4}, {"punch", 4},
			{"sync", 8}, {"commit", 4}, {"checkpoint", 1}, {"compact", 1}, {"close", 2}, {"kill", 2}}}
		if r.IntN(3) == 0 {
			m.far = []int64{1 << 23, 1 << 33}
		}
		steps := m.steps(60)
		for i := range steps { // The others make a difference in time alone.
			steps[i].codec = min(steps[i].codec, codec.LZ4)
		}
		return crashRun{codec: []codec.ID{codec.Raw, codec.LZ4}[r.IntN(2)], dirty: (1 + r.Int64N(6)) * MinFrameSize, steps: steps}
	})
}

// The same holds for a store that has much to compact.
func TestCrashCompact(t *testing.T) {
	crashes(t, someRuns(1, 1, 40), func(r *rand.Rand) crashRun {
		var steps []step
		for i := range int64(24) {
			steps = append(steps, step{what: "write", off: i * MinFrameSize, n: MinFrameSize, seed: 1 + r.Uint64N(2)})
		}
		steps = append(steps, step{what: "sync"})
		m := stepMaker{r: r, frame: MinFrameSize, frames: 22, weights: []weight{{"write", 10}, {"punch", 6}}}
		steps = append(steps, m.steps(16)...)
		return crashRun{steps: append(steps, step{what: "sync"}, step{what: "compact"}, step{what: "write", off: 5, n: 3000, seed: 1},
			step{what: "compact", codec: codec.Zstd}, step{what: "close"})}
	})
}

// The same holds when the disk is full at times, also when the store is opened: then
// single changes are refused, but what was accepted can be committed.
func TestCrashFull(t *testing.T) {
	crashes(t, someRuns(2, 40, 300), func(r *rand.Rand) crashRun {
		m := stepMaker{r: r, frame: MinFrameSize, frames: 12, far: []int64{1 << 23, 1 << 33}, weights: []weight{{"write", 18}, {"frames", 2}, {"truncate", 4},
			{"punch", 8}, {"sync", 12}, {"commit", 4}, {"compact", 1}, {"close", 1}, {"kill", 3}, {"fill", 4}, {"drain", 2}}}
		return crashRun{dirty: (1 + r.Int64N(6)) * MinFrameSize, steps: m.steps(60)}
	})
}

// A store that is packed is no store or a whole one until that is done, and then
// stays whole.
func TestCrashPack(t *testing.T) {
	crashes(t, someRuns(2, 20, 300), func(r *rand.Rand) crashRun {
		m := stepMaker{r: r, frame: MinFrameSize, frames: 12, far: []int64{1 << 23, 1 << 33}, weights: []weight{{"write", 1}}}
		c := crashRun{packed: newPlainFile(nil), steps: []step{{what: "sync"}, {what: "write", n: 100}, {what: "close"}}}
		for range r.IntN(10) {
			st := m.step()
			c.packed.write(st.bytes(), st.off)
		}
		return c
	})
}

// crashes makes so many runs with the power cut after every operation. One that
// fails is repeated with fewer steps, to show the fewest that fail.
func crashes(t *testing.T, runs int, make func(r *rand.Rand) crashRun) {
	var mu sync.Mutex
	states, ops, all := map[string]int{}, map[string]int{}, 0
	t.Run("all", func(t *testing.T) {
		for i := range runs {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				c := make(rand.New(rand.NewPCG(randomSeed(t), 7)))
				h := c.run()
				if h.fault != "" {
					c.steps = shorten(c.steps, func(steps []step) bool {
						again := c
						again.steps = steps
						worse := again.run()
						if worse.fault != "" {
							h = worse
						}
						return worse.fault != ""
					})
					t.Fatalf("%s\nsteps: %v", h.fault, c.steps)
				}
				mu.Lock()
				defer mu.Unlock()
				for what, n := range h.states {
					states[what] += n
					all += n
				}
				for what, n := range h.d.counts {
					ops[what] += n
				}
			})
		}
	})
	t.Logf("%d crash states, built during %v; operations: %v", all, states, ops)
}

// A crashRun is what is done to a store on a simulated disk.
type crashRun struct {
	codec  codec.ID
	dirty  int64
	packed *plainFile // the store is not created but packed, with these bytes
	steps  []step
}

// crashHarness cuts the power after every operation of one run, of the flusher's,
// too, which go on beside the steps.
type crashHarness struct {
	d    *simDisk
	s    *Store
	want *plainFile // what the store holds now

	// What follows changes with d.mu held.
	held     map[uint64]*plainFile // what each generation holds
	durable  uint64                // the last generation known to be durable
	base     uint64                // the generation before the commit under way
	promised bool                  // until then there need be no store
	doing    string
	states   map[string]int // that were looked at, by what was being done
	fault    string         // the first
}

func (c crashRun) run() *crashHarness {
	h := &crashHarness{d: &simDisk{}, want: newPlainFile(nil), held: map[uint64]*plainFile{}, states: map[string]int{}}
	h.d.after = h.cut
	h.doing = "create"
	h.base, h.held[1] = 1, h.want.clone()
	err := h.begin(c)
	for i := 0; i < len(c.steps) && err == nil && h.goesOn(c.steps[i].what); i++ {
		err = h.step(c.steps[i])
	}
	if h.s != nil {
		h.s.flusher.Wait()
	}
	if err != nil && h.fault == "" {
		h.fault = fmt.Sprintf("%s: %v", h.doing, err)
	}
	return h
}

// goesOn says what is done next, unless there was a fault.
func (h *crashHarness) goesOn(doing string) bool {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.doing = doing
	return h.fault == ""
}

// begin makes the store.
func (h *crashHarness) begin(c crashRun) (err error) {
	if c.packed != nil {
		h.doing, h.want = "pack", c.packed
		return h.pack()
	}
	h.s, err = createDisk(h.d, nil, CreateOptions{Codec: c.codec, FrameSize: MinFrameSize, DirtyBytes: c.dirty})
	if err != nil {
		return err
	}
	return h.step(step{what: "sync"})
}

// pack makes the store as Pack does, a few frames at a time.
func (h *crashHarness) pack() error {
	sb, err := newSuperblock(CreateOptions{FrameSize: MinFrameSize})
	if err != nil {
		return err
	}
	w, err := buildOn(h.d, nil, sb)
	if err != nil {
		return err
	}
	h.committing(3)
	h.durable = sb.gen + 1 // An empty one is not to be seen.
	t := &batch{}
	for i, page := range slices.Sorted(maps.Keys(h.want.pages)) {
		if err := w.s.compressBatch(t, h.want.pages[page][:min(PageSize, h.want.size-page*PageSize)], page*PageSize); err != nil {
			return err
		}
		if i%3 == 2 {
			if err := w.append(t); err != nil {
				return err
			}
			t = &batch{}
		}
		if i%5 == 4 { // As it does now and then.
			w.leaf, w.leaves = -1, leavesPerFlush
		}
	}
	if err := w.append(t); err != nil {
		return err
	}
	if _, err := w.finish(h.want.size); err != nil {
		return err
	}
	h.durable, h.promised = w.s.gen, true
	return h.open(Options{Writable: true})
}

func (h *crashHarness) open(o Options) (err error) {
	h.goesOn("open")
	h.committing(1) // Recovery commits what it found.
	h.s, err = openDisk(h.d, nil, o)
	if err == nil {
		h.committed(false)
	}
	return err
}

// step does one step. From the first operation of a commit on, what it commits may
// be found; after the last of one that waits, nothing older.
func (h *crashHarness) step(st step) error {
	o := Options{Writable: true, DirtyBytes: h.s.dirtyLimit}
	switch st.what {
	case "close":
		h.committing(3)
		if err := h.s.Close(); err != nil {
			return err
		}
		h.committed(true)
		return h.open(o)
	case "kill": // What waits is lost.
		if err := h.s.Discard(); err != nil {
			return err
		}
		h.want = h.held[h.s.gen].clone()
		return h.open(o)
	case "fill", "drain":
		h.d.setFull(st.what == "fill")
		return nil
	case "compact":
		h.committing(1000)
	case "sync", "commit", "checkpoint":
		h.committing(3)
	}
	err := st.do(h.s, h.want)
	if err != nil && !(isNoSpace(err) && st.mayLackRoom()) {
		return err
	}
	h.committed(st.what == "sync" || st.what == "checkpoint" || st.what == "compact")
	return nil
}

// committing says that the next so many generations hold what is there now.
func (h *crashHarness) committing(generations uint64) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.s != nil {
		h.base = h.s.gen
	}
	content := h.want.clone()
	for g := h.base + 1; g <= h.base+generations; g++ {
		h.held[g] = content
	}
	if h.held[h.base] == nil {
		h.held[h.base] = content
	}
}

// committed says that no newer generation than that of the store was made, and
// whether that is durable.
func (h *crashHarness) committed(durable bool) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if durable {
		h.durable, h.promised = h.s.gen, true
	}
	for g := h.s.gen + 1; h.held[g] != nil; g++ {
		delete(h.held, g)
	}
}

// examine opens an image as a reader and as a writer, and says what is wrong.
func (h *crashHarness) examine(image []byte) string {
	for _, writable := range []bool{false, true} {
		d := &simDisk{now: image, durable: image, full: h.d.full}
		s, err := openDisk(d, nil, Options{Writable: writable})
		if !h.promised && (errors.Is(err, ErrNotStore) || errors.Is(err, ErrDamaged)) {
			return ""
		}
		if err != nil {
			return fmt.Sprintf("open, writable %v: %v", writable, err)
		}
		if fault := h.compare(s, writable); fault != "" {
			return fmt.Sprintf("writable %v: %s", writable, fault)
		}
		if !writable {
			continue
		}
		d.pending = nil
		again, err := openDisk(d, nil, Options{Writable: true})
		if err != nil || len(d.pending) > 0 {
			return fmt.Sprintf("second open: %v, it changes the file: %d", err, len(d.pending))
		}
		if fault := h.compare(again, true); fault != "" {
			return "second open: " + fault
		}
	}
	return ""
}

func (h *crashHarness) compare(s *Store, recovered bool) string {
	gen := s.Generation()
	want, older := h.held[gen], h.held[gen-1]
	if want == nil && recovered {
		want = older // Recovery is a commit of its own.
	}
	if want == nil || gen < h.durable {
		return fmt.Sprintf("generation is %d, want %d or a commit after it", gen, h.durable)
	}
	diff := want.diff(s)
	if diff != "" && recovered && older != nil {
		diff = older.diff(s)
	}
	if diff != "" {
		return fmt.Sprintf("generation %d: %s", gen, diff)
	}
	if !h.promised {
		return "" // Its first block may be half there.
	}
	var fault string
	if err := s.Check(context.Background(), func(d *DamageError) { fault = d.Error() }, nil); err != nil {
		return err.Error()
	}
	return fault
}
