package store

import (
	"errors"
	"hash/crc32"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
)

// Options adjust Open. The zero value opens read-only.
type Options struct {
	// Writable takes the writer's lock and allows changes.
	Writable bool

	// Shared says that the writer's lock, which belongs to the open file description,
	// is others', too, and stays when the store is closed: they have copies of the
	// descriptor. Otherwise nobody keeps it, whoever has a copy.
	Shared bool

	// Lent says that the file stays the caller's, who closes it after the store. It may
	// be one that another Store owns.
	Lent bool

	// Codec compresses the frames written from now on, at Level, whose zero is
	// the codec's default. It becomes the store's own. A zero Codec means that one,
	// and its level, unless Level names another.
	Codec codec.ID
	Level int

	// Cache keeps decompressed frames for ReadAt and may serve many stores. Nil
	// means none.
	Cache *Cache

	// Expect is a generation that the store is known to have reached, by Probe for
	// example. Where it is still the newest a reader opens with fewer reads. Zero
	// means that nothing is known.
	Expect uint64

	// Blank, unless it is nil, says what new store a file is that is Blank, and would
	// be none otherwise. A reader sees it empty, a writer makes its first block. Cache
	// and DirtyBytes are those of Options.
	Blank *CreateOptions

	// DirtyBytes bounds the written plain bytes that wait in memory to be
	// compressed. Zero means 16 MiB. One frame waits however small it is.
	DirtyBytes int64
}

const defaultDirtyBytes = 16 << 20

// nextStore numbers the open stores, for the cache's keys.
var nextStore atomic.Uint64

// Open opens the store at path. Read-only, it sees the newest generation and
// keeps seeing that one; writable, it holds the writer's lock until it is closed.
//
// A file that is no store gives ErrNotStore, one of a later version ErrVersion,
// a damaged one ErrDamaged, one that another writer holds ErrLocked.
func Open(path string, o Options) (*Store, error) {
	flags := os.O_RDONLY
	if o.Writable {
		flags = os.O_RDWR
	}
	// Opening a named pipe without O_NONBLOCK would wait for its writer.
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return OpenFile(f, o)
}

// OpenFile opens the store in f, which must be open for writing when o.Writable.
// f belongs to the store from then on, also when OpenFile fails, unless o.Lent.
func OpenFile(f *os.File, o Options) (*Store, error) {
	s, err := openFile(f, o)
	if o.Blank != nil && errors.Is(err, ErrNotStore) {
		s, err = openBlank(f, o, err)
	}
	if err != nil {
		if !o.Lent {
			f.Close()
		}
		return nil, during("open store", f.Name(), err)
	}
	return s, nil
}

func openFile(f *os.File, o Options) (*Store, error) {
	if o.Writable {
		if err := lockWriter(f); err != nil {
			return nil, err
		}
	}
	return openDisk(fileDisk{f}, f, o)
}

// openDisk opens the store on d. f is the file whose locks it takes or, to write, has;
// nil when d is not a file. Where it fails it gives them up.
func openDisk(d disk, f *os.File, o Options) (*Store, error) {
	s := newStore(d, f)
	s.writable, s.shared, s.borrowed = o.Writable, o.Shared, o.Lent
	s.cache = o.Cache
	s.dirtyLimit = o.DirtyBytes
	if err := s.load(o); err != nil {
		if f != nil {
			_ = s.unlock()
		}
		return nil, err
	}
	return s, nil
}

// load reads the state that s is to begin with.
func (s *Store) load(o Options) error {
	commits, err := s.readState(o.Expect)
	if err != nil {
		return err
	}
	if err := s.setUp(o); err != nil {
		return err
	}
	if err := s.replay(commits); err != nil {
		return err
	}
	if s.slotDurable {
		s.durable = s.gen
	}
	if !o.Writable {
		return nil
	}
	s.surplus = !s.twins || len(commits) > 0 || s.overhangs()
	return s.startLog(len(commits) > 0)
}

// overhangs reports whether the file takes more of the disk than its bytes and the
// file system's own list of blocks can account for: a writer that was killed had
// reserved what lies behind the end.
func (s *Store) overhangs() bool {
	size, err := s.d.Size()
	if err != nil {
		return false
	}
	blocks, err := s.d.Blocks()
	return err == nil && blocks > size+size/128+minReserve/2
}

// readState reads the newest superblock and the log behind it. A reader pins
// what it has read first, and reads again: what it finds then is newer or the
// same, and protected by the pin. Where it expects a generation it pins that first.
func (s *Store) readState(expect uint64) ([]commit, error) {
	if s.writable {
		return s.readDurable()
	}
	if expect > 0 && expect <= maxGeneration && s.f != nil && pin(s.f, expect) == nil {
		commits, err := s.readOnce()
		if err == nil && s.sb.gen >= expect {
			s.pinned = int64(expect)
			return commits, nil
		}
		if err := unpin(s.f, expect); err != nil {
			return nil, err
		}
	}
	commits, err := s.readOnce()
	if err != nil || s.f == nil {
		return commits, err
	}
	first := s.sb.gen
	switch err := pin(s.f, first); {
	case errors.Is(err, errNoLocks):
		// The writer can't see pins there either, and never reuses space.
		return s.readOnce()
	case err != nil:
		return nil, err
	}
	s.pinned = int64(first)
	return s.readOnce()
}

func (s *Store) readOnce() ([]commit, error) { return s.readWith(readLog) }

// readWith reads the newest superblock, and with read, which is readLog or scanLog,
// the log behind it.
func (s *Store) readWith(read func(disk, int64, *superblock, uint32) ([]commit, error)) ([]commit, error) {
	fileSize, err := s.readSuperblocks()
	if err != nil {
		return nil, err
	}
	s.idSum = crc32.Update(0, castagnoli, s.sb.id[:])
	return read(s.d, fileSize, &s.sb, s.idSum)
}

// setUp derives what the superblock implies.
func (s *Store) setUp(o Options) error {
	s.frameSize = s.sb.frameSize()
	s.shift = s.sb.frameShift
	s.idx.shift = s.shift
	s.inline = inlineFrame{data: s.sb.inline, kind: s.sb.inlineKind, plain: s.sb.inlinePlain}
	if s.dirtyLimit <= 0 {
		s.dirtyLimit = defaultDirtyBytes
	}
	id, level := s.sb.codec, int(s.sb.level)
	if o.Codec != 0 {
		id, level = o.Codec, o.Level
	} else if o.Level != 0 {
		level = o.Level
	}
	c, err := codec.New(id, level)
	if err != nil {
		return err
	}
	s.codec.Store(&c)
	s.level = level
	s.size, s.gen = s.sb.size, s.sb.gen
	s.frames, s.stored = s.sb.frames, s.sb.stored
	s.logNext, s.logSeed = s.sb.logOff, s.sb.logSeed
	return s.idx.open(s.sb.root, int(s.sb.depth))
}
