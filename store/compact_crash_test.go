package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
)

// Wherever the power is cut while a store is compacted or compressed again, it
// opens with the bytes that it had, and Check finds nothing.
func TestCrashCompact(t *testing.T) {
	runs := 2
	switch {
	case testing.Short():
		runs = 1
	case os.Getenv("LAZYFS_LONG") != "":
		runs = 200
	}
	for i := range runs {
		seed := rand.Uint64()
		if v := os.Getenv("LAZYFS_SEED"); v != "" {
			seed, _ = strconv.ParseUint(v, 10, 64)
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			h := &crashHarness{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 11)), states: map[uint64][]byte{}, d: &simDisk{}}
			s, err := createDisk(h.d, nil, CreateOptions{FrameSize: MinFrameSize})
			h.must(err)
			h.s = s
			h.scatter()
			h.d.after = h.cut
			for _, o := range []CompactOptions{{}, {Codec: codec.Zstd}} {
				h.compact(o)
			}
			h.close()
			t.Logf("seed %d: %d crash states, file of %d bytes", seed, h.cuts, len(h.d.now))
		})
	}
}

// scatter fills the store and frees pieces of it.
func (h *crashHarness) scatter() {
	for i := range 24 {
		p := compactFrame(h.r, MinFrameSize)
		h.want = append(h.want, p...)
		_, err := h.s.WriteAt(p, int64(i)*MinFrameSize)
		h.must(err)
	}
	h.must(h.s.Sync())
	for range 10 {
		h.write(h.r.IntN(len(h.want)-MinFrameSize), MinFrameSize)
	}
	for range 6 {
		off := h.r.IntN(len(h.want))
		h.must(h.s.Punch(int64(off), 2*MinFrameSize))
		clear(h.want[off:min(len(h.want), off+2*MinFrameSize)])
	}
	h.commit("sync")
}

// compact compacts the store in small steps, of which each may be the one that a
// power cut leaves.
func (h *crashHarness) compact(o CompactOptions) {
	h.note("compact %v", o.Codec)
	h.write(5, 3000) // What was written before is kept by it.
	h.begin()
	for g := h.base + 1; g < h.base+1000; g++ {
		h.states[g] = h.states[h.base+1]
	}
	c := newCompactor(h.s, context.Background(), o, 3*MinFrameSize)
	c.slack = 4 << 10
	h.must(c.run())
	h.durable = h.s.Generation()
	h.end()
	if l := c.layout(); l.free > l.slack+2*logBlockLen {
		h.t.Errorf("seed %d: %d of %d bytes are free", h.seed, l.free, l.end)
	}
}

// Whichever operation of the disk fails during a compaction, Compact returns the
// error, and the store holds what it held; once the disk works again it can be
// compacted, unless a Datasync failed.
func TestCompactFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for n, hit := 0, true; hit; n++ {
		fault := []error{unix.EIO, unix.ENOSPC}[n%2]
		h := &crashHarness{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 11)), states: map[uint64][]byte{}, d: &simDisk{}}
		s, err := createDisk(h.d, nil, CreateOptions{FrameSize: MinFrameSize})
		h.must(err)
		h.s, hit = s, false
		h.scatter()
		at := h.d.ops + n
		h.d.fail = func(op int) error {
			if op != at {
				return nil
			}
			hit = true
			return fault
		}
		c := newCompactor(s, context.Background(), CompactOptions{Codec: codec.Zstd}, 3*MinFrameSize)
		c.slack = 4 << 10
		err = c.run()
		// A full disk may be worked around, and what is only punched is not missed.
		if err != nil && !errors.Is(err, fault) {
			t.Fatalf("operation %d fails with %v: compact gives %v", n, fault, err)
		}
		if err == nil && hit && fault == unix.EIO && s.failed != nil {
			t.Fatalf("operation %d: compact succeeds after a Datasync failed", n)
		}
		h.d.fail = nil
		h.keeps(n)
	}
}

// keeps checks the store after operation n of a compaction failed.
func (h *crashHarness) keeps(n int) {
	h.t.Helper()
	got, err := readAll(h.s)
	if err != nil || !bytes.Equal(got, h.want) {
		h.t.Fatalf("operation %d failed: read back %d bytes, %v", n, len(got), err)
	}
	if err := h.s.spaceFault(); err != nil {
		h.t.Fatalf("operation %d failed: %v", n, err)
	}
	lost := h.s.failed != nil
	if !lost {
		h.must(h.s.Compact(context.Background(), CompactOptions{}))
		h.must(h.s.Close())
	}
	s, err := openDisk(&simDisk{now: bytes.Clone(h.d.durable)}, nil, Options{})
	h.must(err)
	if got, err = readAll(s); err != nil || !bytes.Equal(got, h.want) {
		h.t.Fatalf("operation %d failed: after a power cut %d bytes, %v", n, len(got), err)
	}
	for _, d := range checked(h.t, s) {
		h.t.Errorf("operation %d failed: %v", n, d)
	}
}

const readerEnv = "LAZYFS_TEST_READER"

// TestReaderProcess is the other process of the test below; on its own it does
// nothing. It opens a store and reads it over and over; for each line of its
// input it prints the checksum of everything it reads, or what is wrong.
func TestReaderProcess(t *testing.T) {
	path := os.Getenv(readerEnv)
	if path == "" {
		return
	}
	s, err := Open(path, Options{})
	must(t, err)
	fmt.Println("ready", path)
	var first [sha256.Size]byte
	orders := make(chan string)
	go func() {
		defer close(orders)
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			orders <- lines.Text()
		}
	}()
	for n := 0; ; n++ {
		b, err := readAll(s)
		sum := sha256.Sum256(b)
		if n == 0 {
			first = sum
		}
		if err != nil || sum != first {
			fmt.Println("pass", n, "reads other bytes:", err)
			os.Exit(1)
		}
		select {
		case order, open := <-orders:
			if !open {
				os.Exit(0)
			}
			fmt.Printf("did %s <nil>\n", order)
			fmt.Printf("%x\n", sum)
		default:
		}
	}
}

// Readers in other processes go on seeing their generations, byte for byte, while
// a store is overwritten and compacted; what they pin is given back by the next
// compaction once they are gone, be they killed.
func TestCompactBesideReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	want := fragment(t, path, "overwritten", 600)
	w, err := Open(path, Options{Writable: true})
	must(t, err)
	r := rand.New(rand.NewPCG(5, 6))
	var readers []*locker
	var sums [][sha256.Size]byte
	for round := range 3 {
		sums = append(sums, sha256.Sum256(want))
		readers = append(readers, startReader(t, path))
		for range 400 {
			i, p := r.IntN(600), compactFrame(r, MinFrameSize)
			copy(want[i*MinFrameSize:], p)
			mustWrite(t, w, p, int64(i)*MinFrameSize)
		}
		must(t, w.Sync())
		o := CompactOptions{}
		if round == 1 {
			o.Codec = codec.Zstd
		}
		must(t, w.Compact(context.Background(), o))
		if err := w.spaceFault(); err != nil {
			t.Error(err)
		}
	}
	for i, reader := range readers {
		reader.do("sum")
		reader.expect(fmt.Sprintf("%x", sums[i]))
		reader.kill()
	}
	must(t, w.Compact(context.Background(), CompactOptions{}))
	info, err := w.Info()
	must(t, err)
	info.FileSize -= 2 * logBlockLen // Of the store that is still open.
	wantTight(t, "readers are gone", info)
	must(t, w.Close())
	verifyStore(t, path, want)
}

func startReader(t *testing.T, path string) *locker {
	t.Helper()
	l := &locker{t: t, cmd: exec.Command("/proc/self/exe", "-test.run=^TestReaderProcess$")}
	l.cmd.Env = append(os.Environ(), readerEnv+"="+path)
	l.cmd.Stderr = os.Stderr
	in, err := l.cmd.StdinPipe()
	must(t, err)
	out, err := l.cmd.StdoutPipe()
	must(t, err)
	l.in, l.out = in, bufio.NewScanner(out)
	must(t, l.cmd.Start())
	t.Cleanup(l.kill)
	l.expect("ready " + path)
	return l
}
