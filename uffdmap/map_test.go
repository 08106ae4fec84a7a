package uffdmap

import (
	"bytes"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
	"lazyfs/store"
)

// mustMap maps the store at path and closes the mapping when the test ends, if
// the test has not.
func mustMap(t testing.TB, path string, o Options) *Mapping {
	t.Helper()
	m, err := Map(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return m
}

// A mapping holds exactly the bytes of its store, whatever the size, the frame
// size and the codec, and Resident tells what was touched.
func TestMapBytes(t *testing.T) {
	for _, frame := range []int{4 << 10, 16 << 10, 1 << 20} {
		for _, size := range []int{0, 1, 4095, 4096, 4097, 16<<10 - 1, 16<<10 + 1, 3<<20 + 123} {
			id := []codec.ID{codec.LZ4, codec.Zstd}[size&1]
			data := content(size, 1)
			path := pack(t, data, store.CreateOptions{FrameSize: frame, Codec: id})
			for _, o := range []Options{{}, {Writable: true}, {Private: true}} {
				m, err := Map(path, o)
				if err != nil {
					t.Fatalf("%d bytes in frames of %d, %+v: %v", size, frame, o, err)
				}
				if got := slices.Collect(m.Resident()); len(got) > 0 {
					t.Errorf("%d bytes in frames of %d, %+v: %v is resident before any touch", size, frame, o, got)
				}
				if !bytes.Equal(m.Bytes(), data) {
					t.Errorf("%d bytes in frames of %d, %+v: mapping differs from what was packed", size, frame, o)
				}
				if got, want := slices.Collect(m.Resident()), wholeRange(size); !slices.Equal(got, want) {
					t.Errorf("%d bytes in frames of %d, %+v: resident is %v, want %v", size, frame, o, got, want)
				}
				if err := m.Close(); err != nil {
					t.Errorf("%d bytes in frames of %d, %+v: %v", size, frame, o, err)
				}
			}
		}
	}
}

func wholeRange(size int) []Range {
	if size == 0 {
		return nil
	}
	return []Range{{0, int64(size)}}
}

// A random touch brings in its own frame and no other.
func TestMapBringsInOneFrame(t *testing.T) {
	data := content(4<<20, 2)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{})
	var want []Range
	for _, n := range []int64{200, 7, 90, 9} {
		at := n*16<<10 + 5000
		if m.Bytes()[at] != data[at] {
			t.Fatalf("byte %#x is wrong", at)
		}
		want = append(want, Range{n * 16 << 10, 16 << 10})
	}
	slices.SortFunc(want, func(a, b Range) int { return int(a.Off - b.Off) })
	if got := slices.Collect(m.Resident()); !slices.Equal(got, want) {
		t.Errorf("resident is %v, want %v", got, want)
	}
}

// What is written is in the store after Sync, and what is written after it after
// Close; Dirty names the frames in between.
func TestMapWrites(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	data := content(3<<20+77, 3)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	for round := range 5 {
		dirty := map[int64]bool{}
		for range 50 {
			at := r.IntN(len(data))
			data[at]++
			m.Bytes()[at] = data[at]
			dirty[int64(at)>>14] = true
		}
		got := map[int64]bool{}
		for d := range m.Dirty() {
			for n := d.Off >> 14; n<<14 < d.End(); n++ {
				got[n] = true
			}
		}
		if !maps.Equal(got, dirty) {
			t.Fatalf("round %d: dirty frames are %v, want %v", round, got, dirty)
		}
		if round < 4 {
			if err := m.Sync(); err != nil {
				t.Fatal(err)
			}
			for d := range m.Dirty() {
				t.Fatalf("%v is dirty after Sync", d)
			}
			if !bytes.Equal(unpack(t, path), data) {
				t.Fatalf("round %d: store differs from what was written", round)
			}
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(unpack(t, path), data) {
		t.Fatal("store differs from what was written before Close")
	}
}

// A Sync beside writers loses no write: whatever was written before one began is
// in the store when it returns, and the rest after the next.
func TestMapSyncBesideWriters(t *testing.T) {
	data := content(1<<20, 4)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	const writers = 4
	stop := make(chan struct{})
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 9))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				// Each writer has its own bytes of every frame.
				at := r.IntN(len(data)/64)*64 + w
				data[at]++
				m.Bytes()[at] = data[at]
			}
		})
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if err := m.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	all.Wait()
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Bytes(), data) {
		t.Error("memory differs from what was written")
	}
	if !bytes.Equal(unpack(t, path), data) {
		t.Error("store differs from what was written")
	}
}

// A private mapping never changes its store, not even its file.
func TestMapPrivate(t *testing.T) {
	data := content(1<<20, 5)
	path := pack(t, data, store.CreateOptions{})
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := mustMap(t, path, Options{Private: true})
	for i := 0; i < len(data); i += 5000 {
		m.Bytes()[i]++
	}
	for i := range data {
		want := data[i]
		if i%5000 == 0 {
			want++
		}
		if m.Bytes()[i] != want {
			t.Fatalf("byte %#x is %#x, want %#x", i, m.Bytes()[i], want)
		}
	}
	if err := errors.Join(m.Sync(), m.Close()); err != nil {
		t.Error(err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the store's file has changed (%v)", err)
	}
}

// Protect begins a new set: Written holds the frames written since, whether they
// were absent, present or dirty before.
func TestMapProtect(t *testing.T) {
	data := content(1<<20, 6)
	path := pack(t, data, store.CreateOptions{FrameSize: 4096})
	m := mustMap(t, path, Options{Writable: true})
	b := m.Bytes()
	b[0x1000]++
	b[0x5000]++
	_ = b[0x8000]
	if err := m.Protect(); err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(m.Written()); len(got) > 0 {
		t.Errorf("%v is written right after Protect", got)
	}
	b[0x5004]++  // written before
	b[0x8000]++  // present
	b[0x20000]++ // absent
	want := []Range{{0x5000, 0x1000}, {0x8000, 0x1000}, {0x20000, 0x1000}}
	if got := slices.Collect(m.Written()); !slices.Equal(got, want) {
		t.Errorf("written is %v, want %v", got, want)
	}
	want = []Range{{0x1000, 0x1000}, {0x5000, 0x1000}, {0x8000, 0x1000}, {0x20000, 0x1000}}
	if got := slices.Collect(m.Dirty()); !slices.Equal(got, want) {
		t.Errorf("dirty is %v, want %v", got, want)
	}
}

// Prefetch makes resident what it is told, so that no touch of it faults.
func TestMapPrefetch(t *testing.T) {
	data := content(8<<20, 15)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{})
	var ranges []Range
	for off := int64(0); off < m.Size(); off += 32 << 10 {
		ranges = append(ranges, Range{off + 5, 100})
	}
	if err := m.Prefetch(ranges...); err != nil {
		t.Fatal(err)
	}
	for _, r := range ranges {
		if !bytes.Equal(m.Bytes()[r.Off:r.End()], data[r.Off:r.End()]) {
			t.Fatalf("%v is wrong", r)
		}
	}
	if s := m.Stats(); s.Faults != 0 || s.Resident != 4<<20 {
		t.Errorf("%d faults, %d bytes resident, want 0 and %d", s.Faults, s.Resident, 4<<20)
	}
	for _, r := range []Range{{m.Size() - 1, 2}, {4096, math.MaxInt64}, {-1, 2}} {
		if err := m.Prefetch(r); !errors.Is(err, unix.EINVAL) {
			t.Errorf("prefetch of %v, not all in the mapping: %v, want EINVAL", r, err)
		}
	}
}
