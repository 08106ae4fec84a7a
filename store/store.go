// Package store reads and writes page stores.
//
// A store is one file that holds the bytes of another, its plain bytes, as
// frames compressed one by one: superblocks, frames, an index that says where
// each frame lies, and a log of the commits since the index was last written.
// FORMAT.md in this directory is the specification. Where this package parses,
// it names the section it follows.
//
// The methods of a Store may be called from many goroutines at once, but for
// Close and Discard, which end it. Written bytes are read back at once; they are
// kept by Commit (for the death of the process) and Sync (for a power cut).
package store

import (
	"cmp"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"lazyfs/codec"
)

// A Source is what a store and a folder of page files have in common. Its
// methods may be called from many goroutines at once, but for Close.
type Source interface {
	io.ReaderAt
	io.Closer

	// Size is the number of plain bytes.
	Size() int64

	// FrameSize is the number of plain bytes of a frame, a power of two.
	FrameSize() int

	// ReadFrame fills dst, FrameSize bytes long, with frame n; what lies past
	// Size is zero. When the whole frame is zeros it may return true instead,
	// and leaves dst as it was: such a frame costs no read.
	ReadFrame(n int64, dst []byte) (zero bool, err error)
}

// A Store is an open page store.
//
// Locks are taken in this order: gate, mu.
type Store struct {
	d        disk
	f        *os.File // nil in tests on a simulated disk
	number   uint64   // among the open stores of this process
	writable bool
	borrowed bool  // f stays the caller's
	shared   bool  // so does the writer's lock
	pinned   int64 // generation that a reader pins, -1 when none

	frameSize  int
	shift      uint8
	codec      atomic.Pointer[codec.Codec] // of new frames; Compact changes it beside who compresses
	level      int
	cache      *Cache
	dirtyLimit int64
	idSum      uint32 // checksum of the store's id, from which all others go on

	// gate is shared by those who add single frames to the file, and held alone
	// by those who need the index to be one state: commit, Truncate, Punch. Only its
	// holders change the index, inline, failed, unsynced, the generations, and what is
	// known of superblock and log, so that who holds it alone reads these without mu.
	gate sync.RWMutex

	flusher sync.WaitGroup // what flushBehind started

	mu     sync.RWMutex // guards what follows
	closed bool
	failed error // an fdatasync that failed: nothing may be promised any more
	size   int64
	idx    index
	inline inlineFrame
	frames int64 // on disk, neither hole nor zero
	stored int64 // bytes of their extents

	dirty      map[int64]*dirtyFrame // written, not yet compressed
	queue      []int64               // their numbers in the order of first writing; some are gone
	frozen     map[int64]*dirtyFrame // on their way to the file
	dirtyBytes int64
	flushing   bool // flusher is at work

	changes       bool               // something differs from generation gen
	changed       map[int64]struct{} // frames whose entry does; nil while packing
	cleared       []span             // frames that became holes, before changed ones were set
	clearedLeaves int                // of the index, that replaying the log reads for that

	space     *allocator // nil until something is written
	blocks    blockMap
	ahead     int64 // zeros that may yet be written before the next commit
	limbo     []limboExtent
	nodeLimbo []extent // of index nodes that the superblock on disk still names
	spared    int      // frames that took of what is held back
	reserved  int64    // the disk has room up to this offset, but for what blocks knows to be punched
	surplus   bool     // there may be blocks behind the end of the file
	tight     bool     // what was accepted needs gaps that have blocks
	short     bool     // something was refused for want of room, which a checkpoint may give back
	booked    int      // frames on their way to the file that did not wait
	changing  nodeSet  // of the index, that changes since the last checkpoint may concern

	gen         uint64 // newest generation
	durable     uint64 // newest generation known to survive a power cut
	unsynced    bool   // frames or nodes were written since the last Datasync
	sb          superblock
	slot        int  // where sb lies
	slotDurable bool // sb is known to survive a power cut
	twins       bool // the other slot says the same
	torn        bool // a generation may be on disk though its write failed: only a whole superblock will do
	logBlocks   []int64
	logNext     int64 // where the next log block goes
	logSeed     uint64
	logRun      extent // room for the blocks after it
	logReserved bool   // these places have blocks of the disk
}

// inlineFrame is frame 0 of a small store, which lies in the superblock.
type inlineFrame struct {
	data  []byte // not empty; nil when frame 0 does not lie there
	kind  kind
	plain int // bytes that it holds, at least 1

	version uint64 // of data, for the cache's keys
}

func newStore(d disk, f *os.File) *Store {
	s := &Store{d: d, f: f, number: nextStore.Add(1), pinned: -1}
	s.dirty = map[int64]*dirtyFrame{}
	s.frozen = map[int64]*dirtyFrame{}
	s.changed = map[int64]struct{}{}
	s.changing = newNodeSet()
	s.idx.read = s.readNode
	return s
}

// Path is the name of the store's file as it was opened.
func (s *Store) Path() string {
	if s.f == nil {
		return ""
	}
	return s.f.Name()
}

// Size is the number of plain bytes.
func (s *Store) Size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.size
}

// FrameSize is the number of plain bytes of a frame.
func (s *Store) FrameSize() int { return s.frameSize }

// Generation is the number of the newest commit that s sees.
func (s *Store) Generation() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.gen
}

// Close makes everything written durable, as Sync does, leaves the store without
// a log unless the disk is full, and closes it. The store is closed also when Close
// fails; what was not committed is lost then.
func (s *Store) Close() error {
	var err error
	if s.writable {
		err = s.finish()
	}
	return firstError(err, s.Discard())
}

// Discard closes the store without committing what was written since the last
// Commit or Sync.
func (s *Store) Discard() error {
	if !s.end() {
		return os.ErrClosed
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.drop(s.number)
	if size, err := s.d.Size(); err == nil && s.surplus {
		s.d.Truncate(size) // Gives up what is reserved behind it.
	}
	if s.f == nil {
		return nil
	}
	err := s.unlock()
	if s.borrowed {
		return err
	}
	return s.f.Close() // Gives up all locks that are left.
}

// unlock gives up the locks of s.f that are not others', too.
func (s *Store) unlock() error {
	switch {
	case s.writable && !s.shared:
		return unlockWriter(s.f)
	case s.pinned >= 0:
		return unpin(s.f, uint64(s.pinned))
	}
	return nil
}

// end closes s to all but who is at work, and waits for the flusher. It returns false
// when s is closed already.
func (s *Store) end() bool {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	s.flusher.Wait()
	return !closed
}

// usable returns the reason why the store can't be changed, nil when it can.
// The caller holds mu.
func (s *Store) usable() error {
	switch {
	case s.closed:
		return os.ErrClosed
	case !s.writable:
		return ErrReadOnly
	}
	return s.failed
}

// firstError is the first of errs that is one, nil when none is.
func firstError(errs ...error) error { return cmp.Or(errs...) }

func (s *Store) frameOf(off int64) int64 { return off >> s.shift }

// frameCount is the number of frames that hold size plain bytes.
func (s *Store) frameCount(size int64) int64 {
	return (size + int64(s.frameSize) - 1) >> s.shift
}
