package load

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// memTarget is memory; onRead, onWrite and onSync, when set, see or refuse what is done.
type memTarget struct {
	mu      sync.Mutex // guards b
	b       []byte
	onRead  func(off int64) error
	onWrite func(off int64) bool // false: the write is lost
	onSync  func() error
	syncs   atomic.Int64
}

func (m *memTarget) ReadAt(p []byte, off int64) (int, error) {
	if m.onRead != nil {
		if err := m.onRead(off); err != nil {
			return 0, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memTarget) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.onWrite != nil && !m.onWrite(off) {
		return len(p), nil
	}
	return copy(m.b[off:], p), nil
}

func (m *memTarget) Sync() error {
	m.syncs.Add(1)
	if m.onSync != nil {
		return m.onSync()
	}
	return nil
}

func checked(t *testing.T, o Options, size int64) Options {
	t.Helper()
	o.Block, o.Jobs = max(o.Block, 512), max(o.Jobs, 1)
	if err := o.Check(size); err != nil {
		t.Fatal(err)
	}
	return o
}

// A run does exactly the operations that its options say.
func TestRunCounts(t *testing.T) {
	const size = 100*512 + 100 // the rest behind the last block is not touched
	for name, c := range map[string]struct {
		o             Options
		reads, writes int64 // of all jobs; -1: any
		syncs         int64
	}{
		"whole":      {Options{Mode: Read}, 100, 0, 0},
		"offset":     {Options{Mode: RandRead, Offset: 512 * 30}, 70, 0, 0},
		"size":       {Options{Mode: RandWrite, Size: 512 * 20}, 0, 20, 0},
		"io_size":    {Options{Mode: Write, IOSize: 512*250 + 1}, 0, 250, 0},
		"number_ios": {Options{Mode: RandRead, IOs: 7, Jobs: 3}, 21, 0, 0},
		"fsync":      {Options{Mode: Write, SyncEvery: 30, Jobs: 2}, 0, 200, 6},
		"verify":     {Options{Mode: RandWrite, Verify: true}, 100, 100, 0},
		"mixed all":  {Options{Mode: RandReadWrite, MixRead: 100}, 100, 0, 0},
		"mixed none": {Options{Mode: ReadWrite, MixRead: 0, IOSize: 512 * 2000}, 0, 2000, 0},
		"mixed":      {Options{Mode: RandReadWrite, MixRead: 30, IOs: 50}, -1, -1, 0},
	} {
		m := &memTarget{b: make([]byte, size)}
		results, err := Run(t.Context(), m, checked(t, c.o, size), nil)
		var reads, writes, syncs int64
		for _, r := range results {
			reads += r.Read.IOs
			writes += r.Write.IOs
			syncs += r.Sync.N
			if r.Read.Latency.N != r.Read.IOs || r.Write.Bytes != 512*r.Write.IOs {
				t.Errorf("%s: %d latencies of %d reads, %d bytes in %d writes", name, r.Read.Latency.N, r.Read.IOs, r.Write.Bytes, r.Write.IOs)
			}
		}
		if c.reads < 0 {
			if c.reads, c.writes = reads, 50-reads; reads < 3 || writes < 20 {
				t.Errorf("%s: %d reads and %d writes are no mix of 30 to 70", name, reads, writes)
			}
		}
		if err != nil || reads != c.reads || writes != c.writes || syncs != c.syncs || m.syncs.Load() != syncs {
			t.Errorf("%s: %d reads, %d writes, %d syncs, error %v; want %d, %d, %d", name, reads, writes, syncs, err, c.reads, c.writes, c.syncs)
		}
	}
}

// Whatever write is lost or goes to the wrong place, a run that verifies says so,
// also where an older run has left a good block.
func TestVerifyFindsLostWrites(t *testing.T) {
	const size = 64 * 512
	o := checked(t, Options{Mode: RandWrite, Verify: true, Jobs: 1}, size)
	m := &memTarget{b: make([]byte, size)}
	if _, err := Run(t.Context(), m, o, nil); err != nil {
		t.Fatalf("first run: %v", err)
	}
	for lost := int64(0); lost < size; lost += 512 {
		m.onWrite = func(off int64) bool { return off != lost }
		_, err := Run(t.Context(), m, o, nil)
		var wrong *VerifyError
		if !errors.As(err, &wrong) || wrong.Off != lost {
			t.Fatalf("write at %#x lost: %v, want a VerifyError there", lost, err)
		}
		m.onWrite = nil
		if _, err := Run(t.Context(), m, o, nil); err != nil {
			t.Fatalf("nothing lost: %v", err)
		}
	}
	o.Mode = RandRead
	if _, err := Run(t.Context(), m, o, nil); err != nil {
		t.Errorf("a job that only reads: %v", err)
	}
}

// What was written until the runtime was over is verified however long that takes.
func TestVerifyAfterRuntime(t *testing.T) {
	const size = 64 * 512
	o := checked(t, Options{Mode: RandWrite, Verify: true, Jobs: 1, Runtime: time.Second, TimeBased: true}, size)
	m := &memTarget{b: make([]byte, size), onWrite: func(int64) bool { return false }}
	if _, err := Run(t.Context(), m, o, nil); !errors.As(err, new(*VerifyError)) {
		t.Errorf("all writes lost: %v, want a VerifyError", err)
	}
}

// A sync that fails ends a run, also one that could verify what it has written so far.
func TestSyncFails(t *testing.T) {
	const size = 64 * 512
	full := errors.New("disk is full")
	for _, verify := range []bool{false, true} {
		m := &memTarget{b: make([]byte, size), onSync: func() error { return full }}
		results, err := Run(t.Context(), m, checked(t, Options{Mode: Write, Verify: verify, SyncEvery: 10}, size), nil)
		if !errors.Is(err, full) || results[0].Write.IOs != 10 || results[0].Read.IOs != 0 || results[0].Sync.N != 0 {
			t.Errorf("verify %t: %v after %d writes and %d reads; want %v after 10 writes", verify, err, results[0].Write.IOs, results[0].Read.IOs, full)
		}
	}
}

// Any changed bit of a sealed block, and another place for it, is noticed.
func TestSealedBlocks(t *testing.T) {
	p := make([]byte, 100)
	seal(p, 4096, 5)
	seed, other := uint64(5), uint64(6)
	if err := verify(p, 4096, &seed); err != nil {
		t.Fatal(err)
	}
	if verify(p, 8192, nil) == nil || verify(p, 4096, &other) == nil || verify(p[:99], 4096, nil) == nil {
		t.Error("a block passes for another one")
	}
	for i := range p {
		p[i] ^= 0x20
		if verify(p, 4096, &seed) == nil {
			t.Errorf("byte %d changed: the block passes", i)
		}
		p[i] ^= 0x20
	}
}

// An error ends all jobs, and what was measured until then is there.
func TestRunError(t *testing.T) {
	const size = 1 << 20
	broken := errors.New("broken")
	var reads atomic.Int64
	m := &memTarget{b: make([]byte, size), onRead: func(int64) error {
		if reads.Add(1) == 1000 {
			return broken
		}
		return nil
	}}
	o := checked(t, Options{Mode: RandRead, Jobs: 4, TimeBased: true, Runtime: time.Hour}, size)
	results, err := Run(t.Context(), m, o, nil)
	total := int64(0)
	for _, r := range results {
		total += r.Read.IOs
	}
	if !errors.Is(err, broken) || total < 999 {
		t.Errorf("%d reads, error %v; want 999 or some more, and the target's error", total, err)
	}
}

// The error of one job is that of the run, whichever it is, and that of a group.
func TestErrorOfOneJob(t *testing.T) {
	const size = 64 * 512
	full := syscall.ENOSPC
	for failing := int64(1); failing <= 3*64; failing += 10 {
		var reads atomic.Int64
		m := &memTarget{b: make([]byte, size), onRead: func(int64) error {
			if reads.Add(1) == failing {
				return full
			}
			return nil
		}}
		results, err := Run(t.Context(), m, checked(t, Options{Mode: Read, Jobs: 3}, size), nil)
		if !errors.Is(err, full) {
			t.Fatalf("read %d fails: %v, want %v", failing, err, full)
		}
		report := Report{Results: results, Group: true}
		if got := report.document().Jobs[0].Error; got != int(full) {
			t.Fatalf("the group's error is %d, want %d", got, full)
		}
	}
	wrong := Result{Err: &VerifyError{}}
	if got := wrong.errno(); got != int(syscall.EILSEQ) {
		t.Errorf("the error of a wrong block is %d, want %d", got, syscall.EILSEQ)
	}
}

// Jobs keep to the bytes that offset and size name, and notice what is not there.
func TestRunRange(t *testing.T) {
	const offset, size = 10 * 512, 20 * 512
	for _, there := range []int64{100 * 512, offset + size - 1} {
		seen := make(map[int64]bool)
		m := &memTarget{b: make([]byte, there), onRead: func(off int64) error {
			seen[off] = true
			return nil
		}}
		results, err := Run(t.Context(), m, checked(t, Options{Mode: Read, Offset: offset, Size: size}, 100*512), nil)
		short := there < offset+size
		if errors.Is(err, io.ErrUnexpectedEOF) != short || err != nil && !short || results[0].Read.Short == 1 != short {
			t.Errorf("of %d bytes: %v, %d short reads", there, err, results[0].Read.Short)
		}
		for off := range seen {
			if off < offset || off >= offset+size {
				t.Errorf("read at %#x, which is outside", off)
			}
		}
		if len(seen) != size/512 {
			t.Errorf("%d blocks were read, want %d", len(seen), size/512)
		}
	}
}

// A run that is interrupted, or whose time is over, ends soon, whatever it is at,
// and gives what it has measured.
func TestRunEnds(t *testing.T) {
	const size, short = 1 << 20, 30 * time.Millisecond
	for name, o := range map[string]Options{
		"runtime":          {Mode: RandRead, TimeBased: true, Runtime: short, Jobs: 2},
		"interrupt":        {Mode: RandRead, TimeBased: true, Runtime: time.Hour, Jobs: 2},
		"thinking":         {Mode: Read, ThinkTime: time.Hour},
		"thinking runtime": {Mode: Read, ThinkTime: time.Minute, Runtime: short},
	} {
		interrupted := o.Runtime != short
		ctx, cancel := context.WithCancel(t.Context())
		m := &memTarget{b: make([]byte, size)}
		var seen atomic.Int64
		m.onRead = func(int64) error {
			if seen.Add(1) == 1 && interrupted {
				cancel()
			}
			return nil
		}
		start := time.Now()
		results, err := Run(ctx, m, checked(t, o, size), nil)
		if errors.Is(err, context.Canceled) != interrupted || err != nil && !interrupted {
			t.Errorf("%s: %v", name, err)
		}
		if spent := time.Since(start); spent > 20*time.Second {
			t.Errorf("%s: took %v", name, spent)
		}
		if results[0].Read.IOs+results[len(results)-1].Read.IOs == 0 {
			t.Errorf("%s: nothing was measured", name)
		}
		cancel()
	}
}

// Each wrong option is refused by its name.
func TestOptionErrors(t *testing.T) {
	for want, change := range map[string]func(o *Options){
		"rw trim: want ":                    func(o *Options) { o.Mode = "trim" },
		"rwmixread 101: want ":              func(o *Options) { o.MixRead = 101 },
		"bs 0: want ":                       func(o *Options) { o.Block = 0 },
		"bs 2000: there are only 1000 ":     func(o *Options) { o.Block = 2000 },
		"bs 40: verify needs ":              func(o *Options) { o.Block, o.Verify = 40, true },
		"numjobs 0: want ":                  func(o *Options) { o.Jobs = 0 },
		"numjobs 9999: want ":               func(o *Options) { o.Jobs = 9999 },
		"random_distribution zipf:1.1: rw ": func(o *Options) { o.Theta = 1.1 },
		"time_based: needs runtime":         func(o *Options) { o.TimeBased = true },
		"offset 1001: there are 1000 ":      func(o *Options) { o.Offset = 1001 },
		"offset -1: want ":                  func(o *Options) { o.Offset = -1 },
		"size 600: there are 500 ":          func(o *Options) { o.Offset, o.Size = 500, 600 },
		"io_size 99: is less ":              func(o *Options) { o.IOSize = 99 },
		"number_ios -1: want ":              func(o *Options) { o.IOs = -1 },
		"fsync -1: want ":                   func(o *Options) { o.SyncEvery = -1 },
	} {
		o := Options{Mode: Read, Block: 100, Jobs: 1}
		change(&o)
		if err := o.Check(1000); !errors.As(err, new(*OptionError)) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Check says %v, want %q", err, want)
		}
	}
}

// Times and distributions are read as fio reads them, and nothing else is.
func TestParse(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"10": 10 * time.Second, "10s": 10 * time.Second, "500ms": 500 * time.Millisecond, "7us": 7 * time.Microsecond,
		"2m": 2 * time.Minute, "1h": time.Hour, "1d": 24 * time.Hour, "": -1, "s": -1, "1x": -1, "-1": -1, "1.5s": -1,
		"1sm": -1, "99999999999999999999": -1, "9999999999999h": -1,
	} {
		got, err := ParseTime(text, time.Second)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("ParseTime(%q) is %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]float64{
		"random": 0, "zipf:1.1": 1.1, "zipf:0.5": 0.5, "zipf:1": -1, "zipf:0": -1, "zipf:-1": -1, "zipf:": -1, "zipf": -1,
		"1.1": -1, "zipf:NaN": -1, "zipf:Inf": -1, "": -1,
	} {
		got, err := ParseDistribution(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("ParseDistribution(%q) is %v, %v", text, got, err)
		}
	}
}
