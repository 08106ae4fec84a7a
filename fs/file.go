package fs

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// A file is a backing inode that is open, shared by all handles and hard links.
type file struct {
	m     *mount
	shown shown
	refs  int    // guarded by files.mu: handles, and operations under way
	path  int    // descriptor, most often O_PATH: finds the inode when its names are gone
	name  string // a backing name, for messages

	// readable says that path is open for reading, which it is where only one
	// store will be opened by it: locks belong to what it and its copies share.
	readable bool

	// opening is held until the kernel has seen the end of what was just opened, so that
	// nobody uses that before. It is taken before mu.
	opening sync.Mutex

	// mu is held shared while s is used, exclusively to open, replace or close it.
	// Of a plain file it is held while its size, and what the kernel was told of that,
	// may differ: shared by who writes, exclusively by who cuts or compares.
	mu       sync.RWMutex
	s        *store.Store // nil: not a store, or not open
	small    *smallFile   // holds s; nil: s reads the backing file
	writable bool
	opened   stamp // of s if that is not writable

	lost atomic.Bool // something was refused that the kernel holds for written

	// syncing is held by who commits or syncs, so that others who do find nothing
	// left to do only when that has been done. It is taken before mu.
	syncing sync.Mutex

	uncommitted atomic.Bool // written to since the last commit

	times sync.Mutex // guards what follows; taken after mu, before nodes.mu
	// Once a store has been open for writing its commits disturb the times of
	// the backing inode. Then mtime and ctime are what users see. Of a plain file
	// mtime is that of the last write from the kernel's pages.
	owned        bool
	mtime, ctime unix.Timespec
	untold       bool      // changed since the kernel last told mtime and ctime
	settled      bool      // the backing inode's mtime is mtime
	kept         bool      // somebody has synced what the inode has besides the content
	since        time.Time // of the oldest write that isn't synced; zero: none
	err          error     // of a sync or close in the background, for the next fsync
	losses       int       // see lose
	loss         error     // the last
	gone         bool      // has no name left
	privileges   privileges
}

// need opens the store, for writing if so wished, unless it is open. A store that is
// open for reading is replaced; inval tells that it was an older generation, so that
// the kernel's pages are to be dropped.
func (f *file) need(write bool) (opened, inval bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m.files.isClosed() {
		return false, false, unix.EIO
	}
	if f.s != nil && (f.writable || !write) {
		return false, false, nil
	}
	var st unix.Stat_t // before the store writes to it
	if err := unix.Fstat(f.path, &st); err != nil {
		return false, false, err
	}
	s := f.openSmall(st.Size)
	if s == nil {
		fd, err := f.reopen(write)
		if err != nil {
			return false, false, err
		}
		if write {
			f.notePrivileges()
		}
		known, _ := f.m.probes.get(&st)
		s, err = store.OpenFile(os.NewFile(uintptr(fd), f.name), store.Options{
			Writable:   write,
			Cache:      f.m.cache,
			Expect:     known.generation,
			Blank:      f.m.newStores(),
			DirtyBytes: dirtyBytes,
		})
		if err != nil {
			f.m.logStore(f, err)
			return false, false, err
		}
	}
	if old := f.s; old != nil {
		inval = old.Generation() != s.Generation()
		old.Close()
	}
	f.set(s, write, &st)
	return true, inval, nil
}

// reopen opens the backing inode once more, for a store.
func (f *file) reopen(write bool) (int, error) {
	switch {
	case write:
		return reopenQuietly(f.path, unix.O_RDWR)
	case f.readable:
		fd, err := unix.FcntlInt(uintptr(f.path), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			unix.SetNonblock(fd, false) // It was for what is no regular file.
		}
		return fd, err
	}
	return reopenQuietly(f.path, unix.O_RDONLY)
}

// set makes s the store of f, whose backing inode had state st before s was
// opened. It is called with mu held, or when nobody else knows f.
func (f *file) set(s *store.Store, writable bool, st *unix.Stat_t) {
	f.s, f.writable = s, writable
	if !writable {
		f.opened = stamp{generation: s.Generation(), mtime: st.Mtim, size: st.Size, known: true}
		return
	}
	f.times.Lock()
	defer f.times.Unlock()
	f.owned, f.settled = true, false
	f.mtime, f.ctime = st.Mtim, st.Ctim
}

// plainSize is the size of the open store; false when none is open.
func (f *file) plainSize() (int64, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.s == nil {
		return 0, false
	}
	return f.s.Size(), true
}

func (f *file) isWritable() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.s != nil && f.writable
}

// use calls do with the store, which is not replaced or closed meanwhile.
func (f *file) use(do func(*store.Store) error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.s == nil {
		return os.ErrClosed
	}
	return do(f.s)
}

func (f *file) readAt(p []byte, off int64) (n int, err error) {
	err = f.use(func(s *store.Store) error {
		n, err = s.ReadAt(p, off)
		return err
	})
	if err == io.EOF {
		err = nil
	}
	if err != nil {
		f.m.logStore(f, err)
	}
	return n, err
}

// change calls do, which changes the content now, or long ago if that comes from the
// kernel's pages.
func (f *file) change(fromPages bool, do func(*store.Store) error) error {
	err := f.use(func(s *store.Store) error {
		err := do(s)
		f.changed(fromPages)
		return err
	})
	if err != nil {
		f.m.logStore(f, err)
	}
	return err
}

// shrink is change for what gives space up: do, by whole multiples of grain. Where a
// full disk has no room to note that, making what was noted before durable may give
// some back, and so may giving up whole frames first.
func (f *file) shrink(do func(s *store.Store, grain int64) error) error {
	return f.change(false, func(s *store.Store) error {
		try := func(grain int64) error {
			err := do(s, grain)
			if isNoSpace(err) && s.Sync() == nil {
				err = do(s, grain)
			}
			return err
		}
		err := try(1)
		if isNoSpace(err) && try(int64(s.FrameSize())) == nil {
			err = try(1)
		}
		return err
	})
}

// changed notes that the content was changed. When that was the kernel tells, of what
// comes from its pages before it or after.
func (f *file) changed(fromPages bool) {
	var now unix.Timespec
	if !fromPages {
		now = fileNow()
	}
	f.times.Lock()
	defer f.times.Unlock()
	if !fromPages {
		f.mtime, f.ctime = now, now
	}
	f.untold, f.settled = true, false
	f.uncommitted.Store(true)
	if f.since.IsZero() {
		f.since = time.Now()
	}
}

// commit makes what was written survive the death of this process.
func (f *file) commit() error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	if !f.uncommitted.Swap(false) {
		return nil
	}
	err := f.use((*store.Store).Commit)
	f.unsettle()
	if err != nil {
		f.uncommitted.Store(true)
		f.m.logStore(f, err)
	}
	return err
}

// committed tells whether nothing was written since the last commit. It takes no lock, since
// it is asked with files.mu held.
func (f *file) committed() bool { return !f.uncommitted.Load() }

// sync makes what was written survive a loss of power, and reports an earlier
// failure of a sync in the background once.
func (f *file) sync() error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	f.times.Lock()
	since, uncommitted, err := f.since, f.uncommitted.Swap(false), f.err
	f.since, f.err = time.Time{}, nil
	f.times.Unlock()
	if since.IsZero() {
		return err
	}
	e := f.use((*store.Store).Sync)
	f.unsettle()
	if e != nil {
		f.times.Lock()
		f.since = since
		if uncommitted {
			f.uncommitted.Store(true)
		}
		f.times.Unlock()
		f.m.logStore(f, e)
		return e
	}
	return err
}

// nameless tells whether f has lost its last name.
func (f *file) nameless() bool {
	f.times.Lock()
	defer f.times.Unlock()
	return f.gone
}

// setGone notes whether f has lost its last name.
func (f *file) setGone(gone bool) {
	f.times.Lock()
	defer f.times.Unlock()
	f.gone = gone
}
