package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Whichever single operation of the disk fails, its error reaches a caller;
// everything written can still be read; once the disk works again, the next Sync
// makes all of it durable, unless a Datasync failed: then no later Sync pretends
// otherwise, and the store opens again with what was durable, or newer.
func TestFaults(t *testing.T) {
	seeds := 20
	if testing.Short() {
		seeds = 4
	}
	for i := range seeds {
		fault := []error{unix.EIO, unix.ENOSPC}[i%2]
		seed := rand.Uint64()
		if v := os.Getenv("LAZYFS_SEED"); v != "" {
			fmt.Sscan(v, &seed)
		}
		t.Logf("seed %d", seed)
		for n := 2; ; n++ {
			h := &faultHarness{t: t, at: n, fault: fault, r: rand.New(rand.NewPCG(seed, 3))}
			if !h.run() {
				t.Logf("%v: %d places to fail", fault, n)
				break
			}
		}
	}
}

type faultHarness struct {
	t     *testing.T
	at    int // the operation that fails
	fault error
	hit   bool
	r     *rand.Rand
	d     *simDisk
	s     *Store
	log   []string
	want  []byte
	safe  []byte // what the last completed Sync held
}

// run reports whether the operation to fail came.
func (h *faultHarness) run() bool {
	h.d = &simDisk{}
	s, err := createDisk(h.d, nil, CreateOptions{FrameSize: MinFrameSize, DirtyBytes: 3 * MinFrameSize})
	if err != nil {
		h.t.Fatal(err)
	}
	h.s = s
	h.sync() // What comes before is nobody's yet.
	h.d.fail = func(n int) error {
		if n != h.at {
			return nil
		}
		h.hit = true
		return h.fault
	}
	for i := range 40 {
		h.step(i)
		if h.s == nil {
			return h.hit
		}
		h.read(h.s)
	}
	h.finish()
	return h.hit
}

func (h *faultHarness) failf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("operation %d fails with %v: %s\n%v", h.at, h.fault, fmt.Sprintf(format, args...), h.log)
}

func (h *faultHarness) step(i int) {
	off, n := h.r.IntN(10*MinFrameSize), 1+h.r.IntN(2*MinFrameSize)
	if i < 10 {
		off, n = h.r.IntN(900), 1+h.r.IntN(500)
	}
	switch h.r.IntN(8) {
	case 0, 1, 2:
		p := bytes.Repeat([]byte{byte(1 + i)}, n)
		got, err := h.s.WriteAt(p, int64(off))
		h.expect(err)
		// What was taken counts, also when room could not be made for more.
		if got > 0 {
			h.want = append(h.want, make([]byte, max(0, off+got-len(h.want)))...)
			copy(h.want[off:], p[:got])
		}
	case 3:
		if h.expect(h.s.Truncate(int64(off))) == nil {
			h.want = append(h.want[:min(off, len(h.want)):min(off, len(h.want))], make([]byte, max(0, off-len(h.want)))...)
		}
	case 4:
		if h.expect(h.s.Punch(int64(off), int64(n))) == nil && off < len(h.want) {
			clear(h.want[off:min(len(h.want), off+n)])
		}
	case 5:
		h.expect(h.s.Commit())
	default:
		h.sync()
	}
}

// expect lets the fault through once, and no other error before.
func (h *faultHarness) expect(err error) error {
	h.t.Helper()
	h.log = append(h.log, fmt.Sprintf("%d operations, %d bytes, size %d: %v", h.d.ops, len(h.want), h.s.Size(), err))
	if err != nil && !errors.Is(err, h.fault) {
		h.failf("%v, want the disk's error", err)
	}
	if err != nil && !h.hit {
		h.failf("%v before any fault", err)
	}
	return err
}

func (h *faultHarness) sync() {
	h.t.Helper()
	if h.expect(h.s.Sync()) == nil {
		h.safe = append([]byte{}, h.want...)
		if h.s.failed != nil {
			h.failf("Sync succeeds after a Datasync failed")
		}
		if got := h.crashed(); !bytes.Equal(got, h.safe) {
			h.failf("Sync returned, and a power cut leaves %d other bytes", len(got))
		}
		return
	}
	if h.s.failed != nil {
		h.lost()
	}
}

// crashed returns what a power cut would leave now.
func (h *faultHarness) crashed() []byte {
	d := &simDisk{now: append([]byte{}, h.d.durable...)}
	s, err := openDisk(d, nil, Options{})
	if err != nil {
		h.failf("open after a power cut: %v", err)
	}
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	if err != nil {
		h.failf("read after a power cut: %v", err)
	}
	return got
}

// lost is the end after a failed Datasync.
func (h *faultHarness) lost() {
	for range 2 {
		if h.s.Sync() == nil {
			h.failf("Sync succeeds after a Datasync failed")
		}
	}
	h.read(h.s)
	if _, err := h.s.WriteAt([]byte("x"), 0); err == nil {
		h.failf("WriteAt succeeds after a Datasync failed")
	}
	h.s.Discard()
	s, err := openDisk(h.d, nil, Options{Writable: true})
	if err != nil {
		h.failf("open again: %v", err)
	}
	if got := h.crashed(); len(h.safe) > 0 && len(got) == 0 && len(h.want) > 0 {
		h.failf("nothing is left after a power cut")
	}
	if err := s.Close(); err != nil {
		h.failf("close again: %v", err)
	}
	h.s = nil
}

func (h *faultHarness) read(s *Store) {
	h.t.Helper()
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	if err != nil || !bytes.Equal(got, h.want) {
		h.failf("read %d bytes, %v; want the %d that were written", len(got), err, len(h.want))
	}
	if err := s.spaceFault(); err != nil {
		h.failf("%v", err)
	}
}

// finish closes the store, which may fail once, and opens it again.
func (h *faultHarness) finish() {
	err := h.expect(h.s.Close())
	s, again := openDisk(h.d, nil, Options{Writable: true})
	if again != nil && !errors.Is(again, h.fault) {
		h.failf("open again: %v", again)
	}
	if again != nil {
		if s, again = openDisk(h.d, nil, Options{Writable: true}); again != nil {
			h.failf("open again: %v", again)
		}
	}
	if err == nil {
		h.read(s)
	}
	if err := s.Check(context.Background(), func(d *DamageError) { h.failf("%v", d) }, nil); err != nil {
		h.failf("check: %v", err)
	}
	h.expect(s.Close())
}
