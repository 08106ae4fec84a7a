package store

import (
	"math/bits"
	"sync"
	"unsafe"
)

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
