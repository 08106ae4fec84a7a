package uffdmap

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// View and ReadAt return the store's bytes for every range, whatever the size of
// the frames and of the store, and whatever is already in memory.
func TestViewBytes(t *testing.T) {
	rnd := newRand(t)
	for _, frame := range []int{4 << 10, 16 << 10, 1 << 20} {
		for _, size := range []int{1, 4096, 5000, 16 << 10, 3<<20 + 123} {
			want := plainBytes(rnd, size)
			for _, o := range []Options{{}, {Writable: true}, {Private: true}, {MemoryLimit: 2 << 20}} {
				v := openView(t, newStore(t, want, frame), o)
				if v.Size() != int64(size) {
					t.Fatalf("size is %d, want %d", v.Size(), size)
				}
				for range 50 {
					off := rnd.IntN(size + 1)
					n := rnd.IntN(min(size-off, 1<<20) + 1)
					what := fmt.Sprintf("frames of %d, store of %d, %+v: %d bytes at %d", frame, size, o, n, off)
					s, err := v.View(int64(off), int64(n))
					must(t, what, err)
					same(t, what, s.Bytes(), want[off:off+n])
					s.Release()
					got := make([]byte, n)
					_, err = v.ReadAt(got, int64(off))
					must(t, what, err)
					same(t, what, got, want[off:off+n])
				}
				must(t, "close", v.Close())
			}
		}
	}
}

// Only the frames that were asked for are decompressed, once each.
func TestOnlyWhatIsAsked(t *testing.T) {
	const frame = 16 << 10
	b := bytes.Repeat([]byte("lazy"), 64*frame/4)
	v := openView(t, newStore(t, b, frame), Options{})
	for range 2 {
		for _, off := range []int64{40 * frame, 3 * frame, 63*frame + 5, 20*frame - 1} {
			s, err := v.View(off, 2)
			must(t, "view", err)
			s.Release()
		}
	}
	got := v.Stats()
	if want := (Stats{Faults: 4, Frames: 5, Resident: 5 * frame}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

// Walking forward brings in ever more at once, and one jump ends that.
func TestReadAhead(t *testing.T) {
	const frame = 16 << 10
	b := bytes.Repeat([]byte("lazy"), 8<<20/4)
	v := openView(t, newStore(t, b, frame), Options{})
	for off := int64(0); off < 4<<20; off += frame {
		s, err := v.View(off, frame)
		must(t, "view", err)
		s.Release()
	}
	walked := v.Stats()
	if walked.Faults > 12 || walked.Ahead == 0 {
		t.Errorf("4 MiB one after the other: %+v, want at most 12 faults", walked)
	}
	s, err := v.View(8<<20-frame, frame)
	must(t, "view", err)
	s.Release()
	if got := v.Stats().Frames - walked.Frames; got != 1 {
		t.Errorf("after a jump %d frames came, want 1", got)
	}
}

// Prefetch brings in the part of a range that lies in the mapping, and nothing for
// one that has none.
func TestViewPrefetchRanges(t *testing.T) {
	const frame, size = 4096, 64 << 10
	for r, want := range map[Range]int64{
		{frame, math.MaxInt64}:         size - frame,
		{-frame, 2 * frame}:            frame,
		{math.MinInt64, math.MaxInt64}: 0,
		{math.MinInt64, -1}:            0,
		{size, math.MaxInt64}:          0,
		{frame, 0}:                     0,
	} {
		v := openView(t, newStore(t, make([]byte, size), frame), Options{})
		must(t, "prefetch", v.Prefetch(r))
		if got := v.Stats().Resident; got != want {
			t.Errorf("prefetch of %v: %d bytes are resident, want %d", r, got, want)
		}
	}
}

// When many goroutines want one absent frame it is decompressed once, and all
// see its bytes.
func TestSingleFlight(t *testing.T) {
	const frame = 64 << 10
	rnd := newRand(t)
	b := plainBytes(rnd, 64*frame)
	v := openView(t, newStore(t, b, frame), Options{})
	for n := range int64(64) {
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 8 {
			wg.Go(func() {
				<-start
				s, err := v.View(n*frame, frame)
				if err != nil || !bytes.Equal(s.Bytes(), b[n*frame:(n+1)*frame]) {
					t.Errorf("frame %d: %v, or wrong bytes", n, err)
					return
				}
				s.Release()
			})
		}
		close(start)
		wg.Wait()
	}
	if got := v.Stats().Frames - v.Stats().Ahead; got > 64 {
		t.Errorf("64 frames were brought in %d times", got)
	}
}

// What lies outside, and what is closed or read-only, is refused with an error
// that can be told apart.
func TestRefusals(t *testing.T) {
	path := newStore(t, make([]byte, 10000), 4096)
	v := openView(t, path, Options{})
	for _, r := range []Range{{-1, 1}, {0, -1}, {0, 10001}, {10000, 1}, {1 << 62, 1 << 62}} {
		if _, err := v.View(r.Off, r.Len); err == nil {
			t.Errorf("view of %+v in 10000 bytes works", r)
		}
	}
	if n, err := v.ReadAt(make([]byte, 10), 9995); n != 5 || err != io.EOF {
		t.Errorf("read over the end: %d, %v, want 5, EOF", n, err)
	}
	if _, err := v.Edit(0, 1); !errors.Is(err, ErrReadOnly) {
		t.Errorf("edit: %v, want ErrReadOnly", err)
	}
	if _, err := v.WriteAt([]byte{1}, 0); !errors.Is(err, ErrReadOnly) {
		t.Errorf("write: %v, want ErrReadOnly", err)
	}
	must(t, "close", v.Close())
	_, viewErr := v.View(0, 1)
	_, readErr := v.ReadAt(make([]byte, 1), 0)
	for what, err := range map[string]error{"view": viewErr, "read": readErr, "sync": v.Sync(), "close": v.Close(), "prefetch": v.Prefetch()} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s after close: %v, want closed", what, err)
		}
	}
	if _, err := Open(path, Options{Pages: "tmp%d.gz", Writable: true}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("open page files writable: %v, want ErrReadOnly", err)
	}
	if _, err := Open(path+"x", Options{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path+"x") {
		t.Errorf("open nothing: %v, want not exist, and the path", err)
	}
	if _, err := Open(path, Options{MemoryLimit: -1}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("open with a negative limit: %v, want EINVAL", err)
	}
	if _, err := Open(path, Options{MemoryLimit: 4095}); !errors.Is(err, ErrLimit) {
		t.Errorf("open with less than a frame: %v, want ErrLimit", err)
	}
}

// A write to the bytes of a mapping that is open read-only traps; it neither
// changes them nor ends the program.
func TestReadOnlyMemory(t *testing.T) {
	v := openView(t, newStore(t, make([]byte, 4096), 4096), Options{})
	s, err := v.View(0, 4096)
	must(t, "view", err)
	defer s.Release()
	if !writeTraps(s.Bytes()) {
		t.Error("write to a read-only mapping does not trap")
	}
}

// The kernel gives the memory of a mapping neither to children, which would read
// zeros, nor huge pages where writes are tracked.
func TestMemoryFlags(t *testing.T) {
	v := openView(t, newStore(t, make([]byte, 4096), 4096), Options{Writable: true})
	b, err := os.ReadFile("/proc/self/smaps")
	must(t, "read smaps", err)
	_, b, found := bytes.Cut(b, fmt.Appendf(nil, "%x-", v.mem.addr))
	_, b, _ = bytes.Cut(b, []byte("VmFlags:"))
	flags, _, _ := bytes.Cut(b, []byte("\n"))
	for _, flag := range []string{"dc", "nh", "um", "uw"} {
		if !found || !slices.Contains(strings.Fields(string(flags)), flag) {
			t.Errorf("flags of the memory are%s, want %s among them", flags, flag)
		}
	}
}

// Bytes of a span are nil after Release, and stay good when the mapping is
// closed before.
func TestSpanLife(t *testing.T) {
	want := bytes.Repeat([]byte("ab"), 5000)
	v := openView(t, newStore(t, want, 4096), Options{})
	s, err := v.View(0, 10000)
	must(t, "view", err)
	empty, err := v.View(10000, 0)
	must(t, "view of nothing", err)
	must(t, "close", v.Close())
	same(t, "after close", s.Bytes(), want)
	empty.Release()
	same(t, "after another release", s.Bytes(), want)
	kept := s.Bytes()
	s.Release()
	s.Release()
	if s.Bytes() != nil {
		t.Error("a released span has bytes")
	}
	if len(kept) != cap(kept) {
		t.Errorf("bytes have length %d and capacity %d, want the same", len(kept), cap(kept))
	}
}

// An empty store can be opened, read, and closed.
func TestEmptyStore(t *testing.T) {
	v := openView(t, newStore(t, nil, 4096), Options{Writable: true})
	if n, err := v.ReadAt(make([]byte, 1), 0); n != 0 || err != io.EOF {
		t.Errorf("read: %d, %v, want 0, EOF", n, err)
	}
	must(t, "prefetch", v.Prefetch())
	if d := slices.Collect(v.Dirty()); len(d) != 0 {
		t.Errorf("dirty: %v, want nothing", d)
	}
	must(t, "sync", v.Sync())
	must(t, "close", v.Close())
}

// A folder of page files is mapped like a store, privately written too.
func TestPageFiles(t *testing.T) {
	dir := t.TempDir()
	want := make([]byte, 4*store.PageSize)
	for _, n := range []int{0, 2, 3} {
		page := want[n*store.PageSize : (n+1)*store.PageSize]
		copy(page, bytes.Repeat([]byte{byte(n + 1)}, store.PageSize))
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write(page)
		w.Close()
		must(t, "write", os.WriteFile(filepath.Join(dir, "tmp"+strconv.Itoa(n)+".gz"), z.Bytes(), 0o600))
	}
	v := openView(t, dir, Options{Pages: "tmp%d.gz", Private: true})
	s, err := v.Edit(0, v.Size())
	must(t, "edit", err)
	same(t, "pages", s.Bytes(), want)
	s.Bytes()[store.PageSize] = 0x42
	s.Release()
	if got := slices.Collect(v.Dirty()); len(got) != 1 || got[0] != (Range{store.PageSize, store.PageSize}) {
		t.Errorf("dirty: %v, want page 1", got)
	}
	must(t, "sync", v.Sync())
}

// Calls for what is resident allocate nothing but the Span.
func TestViewAllocations(t *testing.T) {
	v := openView(t, newStore(t, make([]byte, 1<<20), 16<<10), Options{Writable: true})
	must(t, "prefetch", v.Prefetch())
	p := make([]byte, 100_000)
	if n := testing.AllocsPerRun(100, func() { v.ReadAt(p, 5) }); n != 0 {
		t.Errorf("ReadAt allocates %v times, want 0", n)
	}
	if n := testing.AllocsPerRun(100, func() { v.WriteAt(p, 5) }); n != 0 {
		t.Errorf("WriteAt allocates %v times, want 0", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		s, _ := v.View(5, 100_000)
		s.Release()
	}); n > 1 {
		t.Errorf("View allocates %v times, want 1", n)
	}
	if n := unsafe.Sizeof(Span{}); n > 64 {
		t.Errorf("a Span is %d bytes, want at most 64", n)
	}
}
