package store

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"lazyfs/codec"
)

// randomSeed is what a random test begins with: the number in LAZYFS_SEED, which
// repeats a run, or a new one. It is logged.
func randomSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if v := os.Getenv("LAZYFS_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("LAZYFS_SEED: %v", err)
		}
	}
	t.Logf("seed %d", seed)
	return seed
}

// someRuns chooses how often a random test is repeated: with -short, usually, or
// with LAZYFS_LONG.
func someRuns(short, usual, long int) int {
	switch {
	case testing.Short():
		return short
	case os.Getenv("LAZYFS_LONG") != "":
		return long
	}
	return usual
}

// alone leaves out, with -short, a test of one goroutine that takes long: -short is
// for the race detector, which has nothing to see there.
func alone(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("one goroutine")
	}
}

// A step is one thing that is done to a store. It is data, so that a sequence of
// them can be repeated with some left out.
type step struct {
	what   string // write, frames, truncate, punch, sync, commit, checkpoint, compact, cancel, close, kill or lose
	off, n int64
	seed   uint64   // of the bytes that are written
	codec  codec.ID // of compact; 0: frames move as they are
}

// level is that of codec.
func (st step) level() int {
	if st.codec <= codec.Raw {
		return 0
	}
	return int(st.seed % 3 * 3)
}

// commits says that the step ends with a commit.
func (st step) commits() bool {
	switch st.what {
	case "sync", "commit", "checkpoint", "compact", "cancel", "close", "kill":
		return true
	}
	return false
}

func (st step) String() string {
	switch st.what {
	case "write", "frames":
		return fmt.Sprintf("%s %d at %d (%d)", st.what, st.n, st.off, st.seed%3)
	case "punch":
		return fmt.Sprintf("punch %d at %d", st.n, st.off)
	case "truncate":
		return fmt.Sprintf("truncate to %d", st.off)
	case "compact", "cancel", "close", "kill", "lose":
		return fmt.Sprintf("%s as %v, level %d (%d)", st.what, st.codec, st.level(), st.seed%6)
	}
	return st.what
}

// bytes are what a write writes: zeros, noise or what compresses well.
func (st step) bytes() []byte {
	p := make([]byte, st.n)
	r := rand.New(rand.NewPCG(st.seed, 1))
	for i := range p {
		switch st.seed % 3 {
		case 1:
			p[i] = byte(r.Uint32())
		case 2:
			p[i] = 'a' + byte(r.IntN(2))
		}
	}
	return p
}

// mayLackRoom reports whether a full disk may refuse the step.
func (st step) mayLackRoom() bool { return st.what != "sync" && st.what != "commit" }

// do does the step to s, and to want what it means there. Steps that end s are
// not for it.
func (st step) do(s *Store, want *plainFile) error {
	switch st.what {
	case "write":
		p := st.bytes()
		n, err := s.WriteAt(p, st.off)
		if n > 0 { // What was taken counts, also when no room could be made for more.
			want.write(p[:n], st.off)
		}
		return err
	case "frames":
		return st.replaceFrames(s, want)
	case "truncate":
		err := s.Truncate(st.off)
		if err == nil {
			want.truncate(st.off)
		}
		return err
	case "punch":
		err := s.Punch(st.off, st.n)
		if err == nil {
			want.punch(st.off, min(st.n, max(0, want.size-st.off)))
		}
		return err
	case "sync":
		return s.Sync()
	case "commit":
		return s.Commit()
	case "checkpoint":
		return s.checkpointNow()
	case "compact":
		c := newCompactor(s, context.Background(), CompactOptions{Codec: st.codec}, 3*int64(s.FrameSize()))
		c.slack = 4 << 10
		return c.run()
	}
	panic("no step is called " + st.what)
}

// replaceFrames is a write of whole frames, together or one by one, of which only the
// step's bytes change.
func (st step) replaceFrames(s *Store, want *plainFile) error {
	frame, end := int64(s.FrameSize()), min(st.off+st.n, want.size)
	if st.off >= end {
		return nil
	}
	next := want.clone()
	next.write(st.bytes()[:end-st.off], st.off)
	w := s.NewFrameWriter()
	defer w.Close()
	replace := w.Add
	if st.seed&1 != 0 {
		replace = s.WriteFrame
	}
	plain := func(n int64) []byte {
		b := make([]byte, min(frame, want.size-n*frame))
		next.read(b, n*frame)
		return b
	}
	var err error
	for n := st.off / frame; n*frame < end && err == nil; n++ {
		err = replace(n, plain(n))
	}
	if err == nil {
		err = w.Flush()
	}
	for n := st.off / frame; n*frame < end; n++ {
		b := plain(n)
		got := make([]byte, len(b))
		if err != nil { // Any of them may be replaced.
			if _, err := s.ReadAt(got, n*frame); err != nil || !bytes.Equal(got, b) {
				continue
			}
		}
		want.write(b, n*frame)
	}
	return err
}

// checkpointNow is Sync by a checkpoint.
func (s *Store) checkpointNow() error {
	s.gate.Lock()
	defer s.gate.Unlock()
	state, err := s.freeze()
	if err == nil {
		err = s.flushFrozen(state)
	}
	if err == nil {
		err = s.checkpoint(true, state.size)
	}
	if err != nil && state.changes { // Else a full disk has no room for what nobody accepted.
		s.markChanged()
	}
	return err
}

// A stepMaker makes random steps.
type stepMaker struct {
	r       *rand.Rand
	frame   int64    // frame size
	frames  int64    // steps stay within so many frames,
	far     []int64  // counted from the store's beginning or one of these offsets
	weights []weight // of what is done
}

type weight struct {
	what string
	n    int
}

func (m *stepMaker) step() step {
	st := step{off: m.r.Int64N(m.frames * m.frame), n: 1 + m.r.Int64N(2*m.frame), seed: m.r.Uint64(),
		codec: codec.ID(m.r.IntN(int(codec.Gzip) + 1))}
	switch m.r.IntN(6) {
	case 0, 1: // A small store lies in its superblock.
		st.off, st.n = m.r.Int64N(1000), 1+m.r.Int64N(800)
	case 2:
		if len(m.far) > 0 {
			st.off += m.far[m.r.IntN(len(m.far))]
		}
	}
	sum := 0
	for _, w := range m.weights {
		sum += w.n
	}
	k := m.r.IntN(sum)
	for _, w := range m.weights {
		if k < w.n {
			st.what = w.what
			break
		}
		k -= w.n
	}
	if st.what == "frames" {
		st.n *= 4
	}
	return st
}

func (m *stepMaker) steps(n int) []step {
	all := make([]step, n)
	for i := range all {
		all[i] = m.step()
	}
	return all
}

// shorten leaves out of steps all that fails can do without. fails may say no to
// what fails only now and then.
func shorten(steps []step, fails func([]step) bool) []step {
	for n := (len(steps) + 1) / 2; n > 0; n /= 2 {
		for i := 0; i < len(steps); {
			less := slices.Delete(slices.Clone(steps), i, min(i+n, len(steps)))
			if fails(less) {
				steps = less
			} else {
				i += n
			}
		}
	}
	return steps
}

// What is left of a sequence fails still, and each step of it is needed.
func TestShorten(t *testing.T) {
	var steps []step
	for i := range int64(100) {
		steps = append(steps, step{off: i})
	}
	tries := 0
	left := shorten(steps, func(some []step) bool {
		tries++
		has := func(off int64) bool { return slices.ContainsFunc(some, func(s step) bool { return s.off == off }) }
		return has(3) && has(50) && has(99)
	})
	if len(left) != 3 || tries > 100 {
		t.Errorf("left after %d tries: %v, want 3, 50 and 99", tries, left)
	}
}
