package store

import (
	"math/bits"
	"math/rand/v2"
	"runtime"

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

// NewCache makes a cache of at most size bytes of decompressed frames, and no more
// than the machine has memory; zero or less means 64 MiB. Bookkeeping comes on top,
// less than a fiftieth of it. The memory is taken from the system as it fills, and
// given back when the Cache is garbage. A cache that the system has no memory for
// stays empty.
func NewCache(size int64) *Cache {
	if size <= 0 {
		size = defaultCache
	}
	var machine unix.Sysinfo_t
	if unix.Sysinfo(&machine) == nil {
		size = min(size, int64(machine.Totalram)*int64(machine.Unit))
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
