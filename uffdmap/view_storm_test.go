package uffdmap

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Beside constant garbage collection, goroutines that bring in absent frames and
// read them by copy, bytes.Equal, crc32 and sha256, which the runtime can't
// preempt, get the right bytes and never hang, whatever GOMAXPROCS is. A limit
// keeps frames absent again and again.
func TestGarbageCollectorStorm(t *testing.T) {
	const frame, frames = 16 << 10, 512
	d := 5 * time.Second
	switch {
	case longRun():
		d = time.Minute
	case testing.Short():
		d = time.Second
	}
	rnd := newRand(t)
	want := plainBytes(rnd, frames*frame)
	path := newStore(t, want, frame)
	for _, procs := range []int{1, 2, 8} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			v := openView(t, path, Options{MemoryLimit: 64 * frame})
			deadline := time.Now().Add(d)
			var wg sync.WaitGroup
			for _, use := range readers {
				rnd := rand.New(rand.NewPCG(rnd.Uint64(), 0))
				wg.Go(func() {
					for time.Now().Before(deadline) && !t.Failed() {
						off := rnd.Int64N(frames-3) * frame
						n := 1 + rnd.Int64N(3*frame)
						s, err := v.View(off, n)
						if err != nil {
							t.Error(err)
							return
						}
						if !use(s.Bytes(), want[off:off+n]) {
							t.Errorf("%d bytes at %#x are wrong", n, off)
						}
						s.Release()
					}
				})
			}
			wg.Go(func() {
				for time.Now().Before(deadline) {
					runtime.GC()
				}
			})
			wg.Wait()
			t.Logf("%+v", v.Stats())
		})
	}
}

// readers compare bytes in ways that end in assembly.
var readers = []func(got, want []byte) bool{
	bytes.Equal,
	func(got, want []byte) bool {
		c := make([]byte, len(got))
		copy(c, got)
		return bytes.Equal(c, want)
	},
	func(got, want []byte) bool { return crc32.ChecksumIEEE(got) == crc32.ChecksumIEEE(want) },
	func(got, want []byte) bool { return sha256.Sum256(got) == sha256.Sum256(want) },
}
