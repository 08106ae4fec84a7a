package store

import (
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Cache keeps decompressed frames of any number of stores in memory outside
// the Go heap, which the garbage collector neither scans nor counts. It is safe
// for concurrent use, and a nil *Cache keeps nothing.
//
// What is read again stays longest: one pass over a large store pushes out only
// what has not been read for a while.
type Cache struct {
	shards []cacheShard // a power of two of them, none when memory is short
	seed   [3]uint64
}

const (
	defaultCache = 64 << 20
	// grain is the unit of the cache's memory: a frame takes a power of two of
	// them, at an offset that is a multiple of its length.
	grain = MinFrameSize
	// shardBytes is the least memory of one shard, as long as there are several.
	shardBytes = 4 * MaxFrameSize
	maxShards  = 16
)

// NewCache makes a cache of at most size bytes of decompressed frames; zero or
// less means 64 MiB. Bookkeeping comes on top, less than a fiftieth of it. The memory
// is taken from the system as it fills, and given back when the Cache is
// garbage. A cache that the system has no memory for stays empty.
func NewCache(size int64) *Cache {
	if size <= 0 {
		size = defaultCache
	}
	c := &Cache{seed: [3]uint64{rand.Uint64(), rand.Uint64(), rand.Uint64()}}
	n := int64(1)
	for n < maxShards && size/(2*n) >= shardBytes {
		n *= 2
	}
	grains := int(min(size/n/grain, 1<<30))
	if grains == 0 {
		return c
	}
	mem, err := unix.Mmap(-1, 0, int(n)*grains*grain, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return c
	}
	runtime.AddCleanup(c, func(mem []byte) { _ = unix.Munmap(mem) }, mem)
	c.shards = make([]cacheShard, n)
	for i := range c.shards {
		c.shards[i].init(mem[i*grains*grain:][: grains*grain : grains*grain])
	}
	return c
}

// A cacheKey names one content of one frame.
type cacheKey struct {
	store uint64 // number of the open Store
	frame int64
	place uint64 // of the frame's stored bytes, as in its index entry,
	sum   uint32 // and their checksum: a rewritten frame may get an old place
}

// read copies the cached plain bytes from off on into dst. It reports false,
// and leaves dst alone, when they are not cached.
func (c *Cache) read(k cacheKey, dst []byte, off int) bool {
	if c == nil || len(c.shards) == 0 {
		return false
	}
	h := c.hash(k)
	found := c.shard(h).read(k, h, dst, off)
	runtime.KeepAlive(c)
	return found
}

// add copies plain, at most MaxFrameSize bytes, into the cache. A frame that is
// larger than a shard is not kept.
func (c *Cache) add(k cacheKey, plain []byte) {
	if c == nil || len(c.shards) == 0 || len(plain) == 0 || len(plain) > MaxFrameSize {
		return
	}
	h := c.hash(k)
	c.shard(h).add(k, h, plain)
	runtime.KeepAlive(c)
}

// again tells whether it was asked for k not long ago, and notes that it is now.
// What is read for the first time is not worth a copy, as long as decompressing it
// costs no more than a few of them.
func (c *Cache) again(k cacheKey) bool {
	if c == nil || len(c.shards) == 0 {
		return false
	}
	h := c.hash(k)
	return c.shard(h).again(h)
}

// drop forgets all frames of a store.
func (c *Cache) drop(store uint64) {
	if c == nil {
		return
	}
	for i := range c.shards {
		c.shards[i].drop(store)
	}
}

func (c *Cache) shard(h uint64) *cacheShard { return &c.shards[h&uint64(len(c.shards)-1)] }

// hash mixes k with the cache's seed, so that a store made for it can't aim its
// frames at one bucket.
func (c *Cache) hash(k cacheKey) uint64 {
	h := mix(k.store^c.seed[0], uint64(k.frame)^c.seed[1])
	return mix(h^k.place, c.seed[2]^uint64(k.sum))
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b|1)
	return hi ^ lo
}

// A cacheShard is a part of the cache with a lock of its own. Its memory is a
// clock: a hand goes round over it, and what it finds unread makes room. There
// are no lists of free memory, the hand comes across it.
type cacheShard struct {
	mu      sync.Mutex // guards everything below
	mem     []byte
	frames  []cachedFrame  // one a grain; that of a frame's first grain describes it
	buckets []int32        // by hash: first grain of the newest frame plus 1, or 0
	asked   []uint32       // by hash: the hash of the frame that again was asked for last
	stores  map[uint64]int // number of frames of each store
	hand    int            // a grain
	last    int32          // grain of the frame that was read or added last
	turns   uint32         // how often last changed, modulo 2^32
}

// A shard takes up whole cache lines, so that the next one's lock is in none of its.
var _ [128]byte = [unsafe.Sizeof(cacheShard{})]byte{}

// A cachedFrame describes a frame. It holds no pointers.
type cachedFrame struct {
	key   cacheKey
	next  int32  // in its bucket, as in buckets
	size  int32  // plain bytes; 0: no frame begins at this grain
	since uint32 // cacheShard.turns when it was added or credited
	hash  uint32
	reads uint8 // credit: how often the hand passes it by
}

// maxReads bounds the credit of a frame that is read all the time.
const maxReads = 7

func (s *cacheShard) init(mem []byte) {
	grains := len(mem) / grain
	s.mem = mem
	s.frames = make([]cachedFrame, grains)
	s.buckets = make([]int32, 1<<bits.Len(uint(grains-1)))
	s.asked = make([]uint32, len(s.buckets))
	s.stores = make(map[uint64]int)
}

func (s *cacheShard) read(k cacheKey, h uint64, dst []byte, off int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.find(k, h)
	if g < 0 {
		return false
	}
	f := &s.frames[g]
	if off < 0 || off > int(f.size) || len(dst) > int(f.size)-off {
		return false
	}
	copy(dst, s.mem[g*grain+off:])
	s.turn(g)
	// Reads in quick succession, as of one page after the other, say nothing
	// about later ones: they earn one credit.
	if f.reads < maxReads && s.turns-f.since > uint32(len(s.frames)/8) {
		f.reads++
		f.since = s.turns
	}
	return true
}

// turn notes that the frame at grain g is in use.
func (s *cacheShard) turn(g int) {
	if s.last != int32(g) {
		s.last = int32(g)
		s.turns++
	}
}

func (s *cacheShard) add(k cacheKey, h uint64, plain []byte) {
	n := grainsOf(len(plain))
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > len(s.frames) || s.find(k, h) >= 0 {
		return
	}
	g := s.makeRoom(n)
	copy(s.mem[g*grain:], plain)
	s.turn(g)
	b := s.bucket(uint32(h >> 32))
	s.frames[g] = cachedFrame{key: k, next: *b, size: int32(len(plain)), since: s.turns, hash: uint32(h >> 32)}
	*b = int32(g + 1)
	s.stores[k.store]++
}

func (s *cacheShard) again(h uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	hash := uint32(h >> 32)
	at := &s.asked[hash&uint32(len(s.asked)-1)]
	was := *at == hash
	*at = hash
	return was
}

// grainsOf is the number of grains that a frame of n plain bytes takes, none for
// none.
func grainsOf(n int) int {
	if n == 0 {
		return 0
	}
	return 1 << bits.Len(uint((n-1)/grain))
}

func (s *cacheShard) bucket(hash uint32) *int32 { return &s.buckets[hash&uint32(len(s.buckets)-1)] }

// find is the first grain of the frame with key k, or -1.
func (s *cacheShard) find(k cacheKey, h uint64) int {
	for g := *s.bucket(uint32(h >> 32)); g != 0; g = s.frames[g-1].next {
		if s.frames[g-1].key == k {
			return int(g - 1)
		}
	}
	return -1
}

// makeRoom moves the hand to the next n grains in which no frame has credit
// left, empties them and returns the first. Each frame that the hand passes
// loses one credit, so that maxReads turns are enough.
func (s *cacheShard) makeRoom(n int) int {
	for {
		g := (s.hand + n - 1) &^ (n - 1)
		if g+n > len(s.frames) {
			g = 0
		}
		from, to := s.widen(g, n)
		if !s.spend(from, to) {
			s.hand = to
			continue
		}
		for i := from; i < to; i++ {
			if s.frames[i].size != 0 {
				s.evict(i)
			}
		}
		s.hand = g + n
		return g
	}
}

// widen extends the n grains from g to the frame that they are a part of. Where
// there is none, whole frames lie within them, since all are aligned.
func (s *cacheShard) widen(g, n int) (from, to int) {
	for m := 2 * n; m <= MaxFrameSize/grain; m *= 2 {
		i := g &^ (m - 1)
		if have := grainsOf(int(s.frames[i].size)); have >= m {
			return i, i + have
		}
	}
	return g, g + n
}

// spend takes one credit from each frame that begins in a range of grains and
// reports whether none had any.
func (s *cacheShard) spend(from, to int) bool {
	none := true
	for i := from; i < to; i++ {
		if f := &s.frames[i]; f.size != 0 && f.reads > 0 {
			f.reads--
			none = false
		}
	}
	return none
}

// evict forgets the frame at grain g.
func (s *cacheShard) evict(g int) {
	f := &s.frames[g]
	link := s.bucket(f.hash)
	for *link != int32(g+1) {
		link = &s.frames[*link-1].next
	}
	*link = f.next
	if s.stores[f.key.store]--; s.stores[f.key.store] == 0 {
		delete(s.stores, f.key.store)
	}
	*f = cachedFrame{}
}

func (s *cacheShard) drop(store uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for g, left := 0, s.stores[store]; left > 0; g++ {
		if f := &s.frames[g]; f.size != 0 && f.key.store == store {
			s.evict(g)
			left--
		}
	}
}
