package store

import (
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"lazyfs/codec"
)

// sparseStore makes a store of 1 TiB with a million frames of one plain byte, 64
// of them in every fourth leaf of the index.
func sparseStore(b *testing.B) (name string, live []int64) {
	const (
		leaves  = 1 << 14
		perLeaf = 64
	)
	f := tempFile(b)
	sb, err := newSuperblock(CreateOptions{Codec: codec.LZ4, FrameSize: 16 << 10})
	if err != nil {
		b.Fatal(err)
	}
	w, err := newBuilder(f, sb)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	stored := make([]byte, frameHeadLen+1)
	for leaf := range int64(leaves) {
		var t batch
		for i := range int64(perLeaf) {
			n := leaf*4<<fanoutBits + i*fanout/perLeaf + r.Int64N(fanout/perLeaf)
			stored[frameHeadLen] = byte(n)
			sum := putFrameHead(stored, w.s.idSum, kindRaw, n, w.s.gen+1)
			t.add(n, stored, kindRaw, 1, sum)
			live = append(live, n)
		}
		if err := w.append(&t); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := w.finish(1 << 40); err != nil {
		b.Fatal(err)
	}
	return f.Name(), live
}

// BenchmarkOpen opens a store of 1 TiB with a million frames and reads single
// frames of it.
func BenchmarkOpen(b *testing.B) {
	name, live := sparseStore(b)
	var before, after runtime.MemStats
	var most uint64
	ours := &lane{name: "open", run: func() {
		runtime.ReadMemStats(&before)
		s, err := Open(name, Options{})
		if err != nil {
			b.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		most = max(most, after.TotalAlloc-before.TotalAlloc)
		s.Discard()
	}}
	race(b, 5, ours)
	atMost("open 1 TiB, a million frames", float64(ours.median())/float64(time.Millisecond), 20, "%.2f ms")
	atMost("open 1 TiB, memory", float64(most)/(1<<20), 16, "%.2f MiB")

	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	m := &meter{disk: fileDisk{f}}
	s, err := openDisk(m, f, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Discard()
	reads := 0
	p := make([]byte, PageSize)
	r := rand.New(rand.NewPCG(2, 2))
	for range 2000 {
		m.reads = 0
		if _, err := s.ReadAt(p, live[r.IntN(len(live))]<<s.shift); err != nil {
			b.Fatal(err)
		}
		reads = max(reads, m.reads-1) // One is the frame.
	}
	atMost("random read of it, index blocks", float64(reads), 2, "%.0f")
}
