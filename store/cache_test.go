package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

func cacheTestKey(store uint64, frame int64) cacheKey {
	return cacheKey{store: store, frame: frame, place: uint64(frame) << 20, sum: uint32(frame)}
}

// fillFrame makes the plain bytes that belong to k: any piece of them tells
// which frame it is from and where it lay.
func fillFrame(k cacheKey, b []byte) {
	word := (k.store*0x9e3779b97f4a7c15 ^ uint64(k.frame)*0xbf58476d1ce4e5b9 ^ k.place*0x94d049bb133111eb ^ uint64(k.sum)) | 1
	for i := 0; i < len(b); i += 8 {
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], word*uint64(i+1))
		copy(b[i:], w[:])
	}
}

// checkShards looks at everything that the shards keep account of.
func (c *Cache) checkShards() error {
	for i := range c.shards {
		s := &c.shards[i]
		owner, chained, stores := -1, 0, map[uint64]int{}
		for g := range s.frames {
			f := &s.frames[g]
			if f.size == 0 {
				continue
			}
			n := grainsOf(int(f.size))
			if g <= owner || g%n != 0 || g+n > len(s.frames) {
				return fmt.Errorf("shard %d: frame at grain %d of %d bytes, grains up to %d are taken, there are %d", i, g, f.size, owner, len(s.frames))
			}
			owner = g + n - 1
			stores[f.key.store]++
			if s.find(f.key, c.hash(f.key)) != g {
				return fmt.Errorf("shard %d: frame at grain %d is not found by its key", i, g)
			}
		}
		for _, b := range s.buckets {
			for ; b != 0; b = s.frames[b-1].next {
				chained++
			}
		}
		total := 0
		for store, n := range stores {
			if s.stores[store] != n {
				return fmt.Errorf("shard %d: %d frames of store %d, counted %d", i, n, store, s.stores[store])
			}
			total += n
		}
		if len(stores) != len(s.stores) || chained != total {
			return fmt.Errorf("shard %d: %d stores, %d frames in buckets, want %d, %d", i, len(s.stores), chained, len(stores), total)
		}
	}
	return nil
}

// Whatever is added, read and dropped, in frames of all lengths at once: what a
// read finds is what was added under that very key, and the account of the
// memory stays right.
func TestCacheModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for _, size := range []int64{4096, 100_000, 1 << 20, 3<<20 + 4096, 20 << 20} {
		c := NewCache(size)
		plain, got, want := make([]byte, MaxFrameSize), make([]byte, MaxFrameSize), make([]byte, MaxFrameSize)
		lengths := map[cacheKey]int{}
		for step := range someRuns(400, 4000, 40000) {
			k := cacheTestKey(uint64(r.IntN(3)), r.Int64N(200))
			if r.IntN(4) == 0 {
				k.sum++ // Rewritten.
			}
			switch n := 1 + r.IntN(1<<r.IntN(21)); r.IntN(20) {
			default:
				if _, ok := lengths[k]; !ok {
					lengths[k] = n
				}
				fillFrame(k, plain[:lengths[k]])
				c.add(k, plain[:lengths[k]])
			case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9:
				length := lengths[k]
				off := r.IntN(length + 1)
				dst := got[:r.IntN(length-off+1)]
				clear(dst)
				if !c.read(k, dst, off) {
					break
				}
				fillFrame(k, want[:length])
				if !bytes.Equal(dst, want[off:][:len(dst)]) {
					t.Fatalf("seed %d, size %d, step %d: wrong bytes of %v at %d", seed, size, step, k, off)
				}
			case 10:
				if c.read(k, got[:lengths[k]+1], 0) || c.read(k, nil, lengths[k]+1) || c.read(k, got[:1], -1) {
					t.Fatalf("seed %d, size %d, step %d: read past the frame %v", seed, size, step, k)
				}
			case 11:
				if r.IntN(20) > 0 {
					break
				}
				c.drop(k.store)
				if c.read(k, got[:0], 0) {
					t.Fatalf("seed %d, size %d, step %d: frame of a dropped store", seed, size, step)
				}
			}
			if step%50 == 0 {
				if err := c.checkShards(); err != nil {
					t.Fatalf("seed %d, size %d, step %d: %v", seed, size, step, err)
				}
			}
		}
	}
}

// A cache holds exactly as many frames as fit into its size, never one more,
// and takes no more memory than that.
func TestCacheBound(t *testing.T) {
	alone(t)
	for _, size := range []int64{1, 4095, 4096, 3 * 4096, 1<<20 + 4095, 8 << 20, 64 << 20} {
		for _, frame := range []int64{1, 4096, 16 << 10, 1 << 20} {
			c := NewCache(size)
			plain := make([]byte, frame)
			room := max(frame, 4096)
			most := size / room
			for i := range 3*most + 3 {
				c.add(cacheTestKey(1, i), plain)
			}
			var held, memory int64
			for i := range 3*most + 3 {
				if c.read(cacheTestKey(1, i), plain, 0) {
					held++
				}
			}
			for i := range c.shards {
				memory += int64(cap(c.shards[i].mem))
			}
			if held > most || memory > size {
				t.Errorf("cache of %d bytes: holds %d frames of %d in %d bytes, bound is %d", size, held, room, memory, most)
			}
			// Each of its shards wastes less than one frame.
			if held < most-int64(len(c.shards)) || len(c.shards) < 2 && held != most {
				t.Errorf("cache of %d bytes: holds %d frames of %d, has room for %d", size, held, room, most)
			}
		}
	}
}

// Without a cache, and with one too small for anything, reads miss and nothing
// fails. No size means 64 MiB.
func TestCacheNone(t *testing.T) {
	k, b := cacheTestKey(1, 1), make([]byte, 4096)
	for _, c := range []*Cache{nil, NewCache(1)} {
		c.add(k, b)
		if c.read(k, b, 0) {
			t.Error("found a frame in no cache")
		}
		c.drop(1)
	}
	c := NewCache(4 << 20)
	c.add(k, nil)
	c.add(k, make([]byte, MaxFrameSize+1))
	if c.read(k, nil, 0) {
		t.Error("cache keeps a frame of an impossible length")
	}
	vast := NewCache(1 << 62) // No machine has as much.
	if vast.add(k, b); !vast.read(k, b, 0) {
		t.Error("a cache of all memory keeps nothing")
	}
	if c := NewCache(-1); len(c.shards)*len(c.shards[0].mem) != 64<<20 {
		t.Errorf("default cache has %d × %d bytes", len(c.shards), len(c.shards[0].mem))
	}
}

// A pass over a store twenty times the cache, each frame read page by page,
// leaves what is in use beside it, read at random once for each frame of the
// scan. Of those reads 60 % would hit in a queue of this size, and 73 % if the
// frame read longest ago made room.
func TestCacheScan(t *testing.T) {
	alone(t)
	const frameSize, hotFrames = 16 << 10, 2048 // half of the cache
	c := NewCache(2 * hotFrames * frameSize)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	plain, page := make([]byte, frameSize), make([]byte, PageSize)
	hits, reads := 0, 0
	hot := func() {
		k := cacheTestKey(1, r.Int64N(hotFrames))
		reads++
		if c.read(k, page, 0) {
			hits++
			return
		}
		c.add(k, plain)
	}
	for range 20 * hotFrames {
		hot()
	}
	hits, reads = 0, 0
	for i := range int64(20 * 2 * hotFrames) {
		k := cacheTestKey(2, i)
		if c.read(k, page, 0) {
			t.Fatal("found a frame that nobody added")
		}
		c.add(k, plain)
		for off := PageSize; off < frameSize; off += PageSize {
			c.read(k, page, off)
		}
		hot()
	}
	rate := float64(hits) / float64(reads)
	t.Logf("%.1f%% of the hot reads hit beside a scan", rate*100)
	if rate < 0.85 {
		t.Errorf("seed %d: %.1f%% of the hot reads hit beside a scan, want 85%%", seed, rate*100)
	}
}

// A cache full of frames that nobody reads any more makes room for others.
func TestCacheForgets(t *testing.T) {
	alone(t)
	c := NewCache(1 << 20)
	b := make([]byte, 4096)
	use := func(store uint64) (hits int) {
		for range 2000 {
			for i := range int64(200) {
				if c.read(cacheTestKey(store, i), b, 0) {
					hits++
				} else {
					c.add(cacheTestKey(store, i), b)
				}
			}
		}
		return hits
	}
	use(1)
	if hits := use(2); hits < 2000*200*98/100 {
		t.Errorf("%d of %d reads hit after a change of store", hits, 2000*200)
	}
}

// Reading, adding and dropping from many goroutines at once never mixes frames
// up.
func TestCacheConcurrent(t *testing.T) {
	c := NewCache(16 << 20)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 0))
			got, want := make([]byte, 64<<10), make([]byte, 64<<10)
			for i := range someRuns(1500, 5000, 50000) {
				k := cacheTestKey(uint64(r.IntN(2)), r.Int64N(2000))
				n := 4096 << (k.frame % 5)
				fillFrame(k, want[:n])
				if c.read(k, got[:n], 0) && !bytes.Equal(got[:n], want[:n]) {
					t.Errorf("wrong bytes of %v", k)
					return
				}
				c.add(k, want[:n])
				if i%1000 == 0 {
					c.drop(k.store)
				}
			}
		})
	}
	wg.Wait()
	if err := c.checkShards(); err != nil {
		t.Error(err)
	}
}

// Once it is full, a cache costs the garbage collector nothing.
func TestCacheAllocatesNothing(t *testing.T) {
	c := NewCache(4 << 20)
	plain := make([]byte, 16<<10)
	var frame int64
	round := func() {
		frame++
		c.add(cacheTestKey(uint64(frame%7), frame), plain)
		if !c.read(cacheTestKey(uint64(frame%7), frame), plain, 0) {
			t.Fatal("frame is gone at once")
		}
	}
	for range 1000 {
		round()
	}
	if n := testing.AllocsPerRun(5000, round); n != 0 {
		t.Errorf("%v allocations for one add and one read", n)
	}
}

// A cache that nobody has any more gives its memory back to the system.
func TestCacheIsGivenBack(t *testing.T) {
	mapped := func(at string) bool {
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(maps), at)
	}
	const size = 48 << 20
	c := NewCache(size)
	begin := uintptr(unsafe.Pointer(&c.shards[0].mem[0]))
	at := fmt.Sprintf("%x-", begin)
	if !mapped(at) {
		// A neighbour of the mapping may have joined it: its end shows then.
		at = fmt.Sprintf("-%x", begin+size)
	}
	if !mapped(at) {
		t.Fatalf("no mapping begins or ends where the cache's does, at %#x", begin)
	}
	c = nil
	for deadline := time.Now().Add(20 * time.Second); mapped(at); {
		if time.Now().After(deadline) {
			t.Fatal("memory of a cache without users is still mapped")
		}
		runtime.GC()
		runtime.Gosched()
	}
}

func BenchmarkCacheRead(b *testing.B) {
	for _, n := range []int{4 << 10, 16 << 10} {
		c := NewCache(64 << 20)
		plain := make([]byte, n)
		frames := int64(32<<20) / int64(n)
		for i := range frames {
			c.add(cacheTestKey(1, i), plain)
		}
		b.Run(fmt.Sprintf("%dK", n>>10), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				dst, i := make([]byte, n), rand.Int64N(frames)
				for pb.Next() {
					i = (i*1103515245 + 12345) % frames
					if !c.read(cacheTestKey(1, i), dst, 0) {
						b.Fatal("miss")
					}
				}
			})
		})
	}
}

func BenchmarkCacheAdd(b *testing.B) {
	c := NewCache(64 << 20)
	plain := make([]byte, 16<<10)
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for frame := rand.Int64N(1 << 40); pb.Next(); frame++ {
			c.add(cacheTestKey(1, frame), plain)
		}
	})
}

func BenchmarkCacheDrop(b *testing.B) {
	c := NewCache(256 << 20)
	plain := make([]byte, 16<<10)
	for i := range int64(16 << 10) {
		c.add(cacheTestKey(1, i), plain)
	}
	for b.Loop() {
		for i := range int64(4) {
			c.add(cacheTestKey(2, i), plain)
		}
		c.drop(2)
	}
}
