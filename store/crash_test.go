package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"lazyfs/codec"
)

// Wherever the power is cut, the store opens with exactly what the last completed
// Sync or a later commit held; Check finds nothing; and once it was opened for
// writing, opening it again writes nothing.
func TestCrash(t *testing.T) {
	runs := 130 // About 100,000 crash states.
	switch {
	case testing.Short():
		runs = 8
	case os.Getenv("LAZYFS_LONG") != "":
		runs = 2000
	}
	for i := range runs {
		seed := rand.Uint64()
		if v := os.Getenv("LAZYFS_SEED"); v != "" {
			seed, _ = strconv.ParseUint(v, 10, 64)
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			h := &crashHarness{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 7))}
			h.run()
		})
	}
}

// crashHarness runs one random workload on a simulated disk and cuts the power
// after every operation.
type crashHarness struct {
	t    *testing.T
	seed uint64
	r    *rand.Rand
	d    *simDisk
	s    *Store

	want     []byte            // what the store holds now
	states   map[uint64][]byte // what each generation holds
	durable  uint64            // the last generation known to be durable
	base     uint64            // the generation before the commit under way
	log      []string
	cuts     int
	creating bool // nothing was promised yet
}

func (h *crashHarness) run() {
	h.d = &simDisk{}
	h.states = map[uint64][]byte{}
	h.d.after = h.cut
	h.creating = true
	s, err := createDisk(h.d, nil, CreateOptions{Codec: []codec.ID{codec.Raw, codec.LZ4}[h.r.IntN(2)],
		FrameSize: MinFrameSize, DirtyBytes: int64(1+h.r.IntN(6)) * MinFrameSize})
	if err != nil {
		h.t.Fatal(err)
	}
	h.s = s
	h.commit("sync")
	h.creating = false
	for range 60 {
		h.step()
	}
	h.close()
	h.t.Logf("seed %d: %d crash states", h.seed, h.cuts)
}

func (h *crashHarness) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *crashHarness) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("seed %d: %v\n%v", h.seed, err, h.log)
	}
}

func (h *crashHarness) step() {
	off, n := h.r.IntN(12*MinFrameSize), 1+h.r.IntN(2*MinFrameSize)
	if h.r.IntN(3) == 0 {
		off, n = h.r.IntN(1000), 1+h.r.IntN(800)
	}
	switch k := h.r.IntN(20); {
	case k < 9:
		h.write(off, n)
	case k < 11:
		h.note("truncate %d", off)
		h.must(h.s.Truncate(int64(off)))
		h.want = append(h.want[:min(off, len(h.want)):min(off, len(h.want))], make([]byte, max(0, off-len(h.want)))...)
	case k < 13:
		h.note("punch %d %d", off, n)
		h.must(h.s.Punch(int64(off), int64(n)))
		if off < len(h.want) {
			clear(h.want[off:min(len(h.want), off+n)])
		}
	case k < 17:
		h.commit("sync")
	case k < 18:
		h.commit("commit")
	case k < 19:
		h.close()
		h.reopen()
	default:
		h.commit("commit")
		h.must(h.s.Discard())
		h.reopen()
	}
}

func (h *crashHarness) write(off, n int) {
	p := make([]byte, n)
	switch h.r.IntN(3) {
	case 0:
		for i := range p {
			p[i] = byte(h.r.Uint32())
		}
	case 1:
		for i := range p {
			p[i] = byte('a' + h.r.IntN(2))
		}
	}
	h.note("write %d %d", off, n)
	_, err := h.s.WriteAt(p, int64(off))
	h.must(err)
	h.want = append(h.want, make([]byte, max(0, off+n-len(h.want)))...)
	copy(h.want[off:], p)
}

// commit commits, and from its first operation on what it commits may be found.
func (h *crashHarness) commit(what string) {
	h.note("%s", what)
	h.begin()
	if what == "sync" {
		h.must(h.s.Sync())
		h.durable = h.s.Generation()
	} else {
		h.must(h.s.Commit())
	}
	h.end()
}

func (h *crashHarness) begin() {
	h.base = h.s.Generation()
	content := append([]byte{}, h.want...)
	for g := uint64(1); g <= 3; g++ { // A Close may take several.
		h.states[h.base+g] = content
	}
	if h.states[h.base] == nil {
		h.states[h.base] = content
	}
}

func (h *crashHarness) end() {
	for g := h.s.Generation() + 1; h.states[g] != nil; g++ {
		delete(h.states, g)
	}
}

func (h *crashHarness) close() {
	h.note("close")
	h.begin()
	h.must(h.s.Close())
	h.durable = h.s.gen
	for g := h.s.gen + 1; h.states[g] != nil; g++ {
		delete(h.states, g)
	}
}

func (h *crashHarness) reopen() {
	h.note("open")
	h.base = h.s.gen
	content := append([]byte{}, h.want...)
	h.states[h.base+1] = content // Recovery commits what it found.
	s, err := openDisk(h.d, nil, Options{Writable: true, DirtyBytes: h.s.dirtyLimit})
	h.must(err)
	h.s = s
	h.end()
}

// cut builds crash states of this moment: all of them when few operations are
// pending, otherwise a sample.
func (h *crashHarness) cut() {
	n := len(h.d.pending)
	turn := make([]int, n)
	for i := range turn {
		turn[i] = i
	}
	if n <= 3 {
		all := 1
		for range n {
			all *= 3
		}
		for k := range all {
			c := make(crash, n)
			for i, v := 0, k; i < n; i, v = i+1, v/3 {
				c[i] = int8(v % 3)
			}
			h.try(c, turn)
		}
		return
	}
	for range 16 {
		c := make(crash, n)
		bias := h.r.IntN(4)
		for i := range c {
			c[i] = int8(h.r.IntN(3))
			if bias > 0 && h.r.IntN(4) > 0 {
				c[i] = int8(bias % 2)
			}
		}
		if h.r.IntN(2) == 0 {
			h.r.Shuffle(n, func(i, j int) { turn[i], turn[j] = turn[j], turn[i] })
			h.untangle(turn)
		}
		h.try(c, turn)
	}
}

// untangle restores the order of operations that overlap: a disk keeps the order
// of writes to one sector, and a file system that of its own changes of size.
func (h *crashHarness) untangle(turn []int) {
	for i := range turn {
		for j := i + 1; j < len(turn); j++ {
			if turn[i] > turn[j] && h.d.pending[turn[i]].touches(h.d.pending[turn[j]]) {
				turn[i], turn[j] = turn[j], turn[i]
			}
		}
	}
}

func (op simOp) span() (int64, int64) {
	switch op.what {
	case "write":
		return op.off / sector * sector, op.off + int64(len(op.data)) + sector
	case "punch":
		return op.off, op.off + op.n
	}
	return 0, 1 << 62
}

func (op simOp) touches(other simOp) bool {
	a, b := op.span()
	c, d := other.span()
	return a < d && c < b
}

func (h *crashHarness) try(c crash, turn []int) {
	h.cuts++
	image := h.d.image(c, turn, h.r)
	if fault := h.examine(image); fault != "" {
		var ops []string
		for _, i := range turn {
			op := h.d.pending[i]
			ops = append(ops, fmt.Sprintf("%s %#x %d: %d", op.what, op.off, len(op.data), c[i]))
		}
		h.t.Fatalf("seed %d, after %v: %s; durable %d\npending %q", h.seed, h.log, fault, h.durable, ops)
	}
}

// examine opens an image as a reader and as a writer, and says what is wrong.
func (h *crashHarness) examine(image []byte) string {
	if h.creating {
		d := &simDisk{now: image}
		openDisk(d, nil, Options{}) // Whatever it says, nothing was promised yet.
		return ""
	}
	for _, writable := range []bool{false, true} {
		d := &simDisk{now: image, durable: image}
		s, err := openDisk(d, nil, Options{Writable: writable})
		if err != nil {
			return fmt.Sprintf("open, writable %v: %v", writable, err)
		}
		if fault := h.compare(s, writable); fault != "" {
			return fmt.Sprintf("writable %v: %s", writable, fault)
		}
		if !writable {
			continue
		}
		ops := d.ops
		again, err := openDisk(d, nil, Options{Writable: true})
		if err != nil || d.ops != ops {
			return fmt.Sprintf("second open: %v, %d writes", err, d.ops-ops)
		}
		if fault := h.compare(again, true); fault != "" {
			return "second open: " + fault
		}
	}
	return ""
}

func (h *crashHarness) compare(s *Store, recovered bool) string {
	gen := s.Generation()
	want, known := h.states[gen]
	if !known && recovered {
		want, known = h.states[gen-1] // Recovery is a commit of its own.
	}
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	switch {
	case !known || gen < h.durable:
		return fmt.Sprintf("generation is %d", gen)
	case err != nil:
		return fmt.Sprintf("generation %d: read: %v", gen, err)
	}
	match := bytes.Equal(got, want) || recovered && bytes.Equal(got, h.states[gen-1])
	if !match {
		return fmt.Sprintf("generation %d holds %d other bytes, want %d", gen, len(got), len(want))
	}
	var fault string
	if err := s.Check(context.Background(), func(d *DamageError) { fault = d.Error() }, nil); err != nil {
		return err.Error()
	}
	return fault
}
