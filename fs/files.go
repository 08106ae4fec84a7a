package fs

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// dirtyBytes bounds what one store keeps of written, uncompressed frames. Many
// files may be open for writing at once.
const dirtyBytes = 4 << 20

// maxWaiting is how many files may wait for their sync without a handle. More make
// close(2) wait for the disk. Each costs two descriptors and some 20 KiB.
const maxWaiting = 256

// linger is how long a file that was written to and synced stays open after its last
// handle. To close it takes a checkpoint and a wait for the disk, which are for nothing
// when it is opened again at once, or removed as a database does with its journal.
const linger = 50 * time.Millisecond

// files is the table of open files. A file that was written to stays open after
// its last handle is gone until it is synced, see run.
type files struct {
	mu      sync.Mutex // guards what follows and all refs; taken after file.mu
	open    map[shown]*file
	waiting int        // files that nobody uses
	limit   int        // of waiting
	room    *sync.Cond // waiting has become less
	closed  bool       // the mount has ended: everything is closed at once
	failed  error      // see fail

	full chan struct{} // tells run that waiting exceeds its limit
}

func (t *files) init() {
	t.open = make(map[shown]*file)
	t.limit = min(maxWaiting, descriptorLimit()/16)
	t.room = sync.NewCond(&t.mu)
	t.full = make(chan struct{}, 1)
}

// ref counts a reference to f. It is called with mu held.
func (t *files) ref(f *file) {
	if f.refs++; f.refs == 1 && t.open[f.shown] == f {
		t.waiting--
		t.room.Broadcast()
	}
}

// has tells whether the file shown as s is open.
func (t *files) has(s shown) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[s] != nil
}

// inUse tells whether somebody uses the file shown as s.
func (t *files) inUse(s shown) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.open[s]
	return f != nil && f.refs > 0
}

// get returns the file shown as s if it is open, counting one reference.
func (t *files) get(s shown) *file {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.open[s]
	if f != nil {
		t.ref(f)
	}
	return f
}

// add enters f, or returns the one that is there already. Either has one reference
// more.
func (t *files) add(f *file) (*file, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, unix.EIO
	}
	if old := t.open[f.shown]; old != nil {
		t.ref(old)
		return old, nil
	}
	f.refs = 1
	t.open[f.shown] = f
	return f, nil
}

// release gives back one reference. With the last one a file is committed, and
// closed unless it has to be synced first: then it waits for run.
func (t *files) release(f *file) {
	ready := func() bool { return false }
	left := t.leave(f, ready)
	for ; left < 0; left = t.leave(f, ready) {
		ready = f.committed
		if err := f.commit(); err != nil {
			f.fail(err)
			ready = func() bool { return true }
		}
		f.settle()
	}
	if left > 0 {
		return
	}
	f.m.forgetLost(f)
	f.times.Lock()
	unsynced, written := !f.since.IsZero() && !f.gone, f.owned && !f.gone
	f.times.Unlock()
	switch {
	case t.isClosed():
		t.close(f)
	case unsynced: // See run.
	case written:
		time.AfterFunc(linger, func() { t.close(f) })
	default:
		t.close(f)
	}
}

// leave gives back one reference and returns how many are left. It keeps the last
// one and returns -1 when that is not ready to go: as long as it is there, run does
// not close the file.
func (t *files) leave(f *file, ready func() bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.refs == 1 && !ready() {
		return -1
	}
	if f.refs--; f.refs == 0 {
		t.waiting++
	}
	return f.refs
}

func (t *files) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// close closes f if nobody uses it: durably, unless it has no name left. Whoever
// opens the inode again meanwhile waits for the end of that.
func (t *files) close(f *file) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !t.idle(f) {
		return nil
	}
	err := f.closeStore()
	if err != nil {
		f.fail(err)
	}
	// Whoever opens the file next is told, or has it already.
	if untold := f.failure(); untold != nil {
		f.m.nodes.fail(f.shown, untold)
	}
	t.fail(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.refs == 0 {
		delete(t.open, f.shown)
		t.waiting--
		t.room.Broadcast()
		unix.Close(f.path)
		f.path = -1
	}
	return err
}

// fail remembers the first error of which the end of the mount tells.
func (t *files) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		t.failed = err
	}
}

// idle tells whether f is open and nobody uses it.
func (t *files) idle(f *file) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return f.refs == 0 && t.open[f.shown] == f
}

// closeStore is called with f.mu held.
func (f *file) closeStore() error {
	s := f.s
	if s == nil {
		return nil
	}
	f.s = nil
	f.times.Lock()
	gone := f.gone
	f.since = time.Time{}
	f.uncommitted.Store(false)
	f.times.Unlock()
	if gone {
		// What is committed is enough: the inode may be opened again, but it
		// will not be there after a loss of power.
		return s.Discard()
	}
	generation, size := s.Generation(), s.Size()
	err := s.Close()
	f.freeSmall()
	if f.writable {
		f.unsettle()
		f.settle()
		if err == nil {
			err = f.keepInode()
		}
		f.m.keepPages(f, generation, size)
	}
	if err != nil {
		f.m.logStore(f, err)
		err = fmt.Errorf("%s: %w", f.backingPath(), err)
	}
	f.times.Lock()
	f.owned, f.privileges.known = false, false
	f.times.Unlock()
	return err
}

// keepInode makes durable once more what somebody has synced of the backing inode, and the
// privileges that it had: the store that was just closed has written to it.
func (f *file) keepInode() error {
	f.times.Lock()
	kept := f.kept
	f.times.Unlock()
	if !kept && !f.hasPrivileges() {
		return nil
	}
	return os.NewSyscallError("fsync", f.fsync())
}

// fail remembers the error of a sync in the background for the next fsync.
func (f *file) fail(err error) {
	f.times.Lock()
	f.err = err
	f.times.Unlock()
}

// failure is what fail remembered and no fsync has told.
func (f *file) failure() error {
	f.times.Lock()
	defer f.times.Unlock()
	return f.err
}
