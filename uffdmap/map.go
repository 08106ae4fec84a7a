package uffdmap

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"unsafe"
)

// A Mapping is a store, or a folder of page files, as memory that any code may
// touch at any time. Its pages are brought in when they are first touched, by a
// helper process, the pager; see Main.
//
// The bytes may be touched from any number of goroutines, under the rules of the
// language about data races, and the methods called at the same time. What holds
// of them:
//
//   - A page whose frame can't be read or fails its checksum is a SIGBUS for who
//     touches it: a crash, or a panic that can be recovered after
//     debug.SetPanicOnFault(true), with the address. The page stays so until a
//     Prefetch of it succeeds, which otherwise tells the reason as an error.
//   - A touch of an absent page keeps its goroutine's P while it waits, a few
//     microseconds for a store on a local disk. With a slow store that adds up
//     to pauses of the garbage collector: call Prefetch before, or use Open.
//   - Without privileges (see ErrPrivilege) system calls such as write(2) on
//     absent pages fail with EFAULT, and those that read into protected pages as
//     well: Prefetch them, or touch them first.
//   - Direct I/O (O_DIRECT), io_uring's fixed buffers and RDMA into a mapping
//     with a MemoryLimit lose data. Into others, what was begun before a Sync,
//     Protect or Snapshot, or registered, and arrives after it is not noticed as
//     written: write to the pages again then, a byte of each is enough.
//   - A child that is forked without exec has no such memory.
//   - The memory must not be unmapped, moved, or mapped over.
//   - When the pager dies its standby takes over and starts another; no byte is
//     lost, unsynced writes included. If both are killed within the few
//     milliseconds that takes, touches of absent pages may wait until the
//     program is killed. They never see zeros.
//   - When no pager can be started any more all calls that need one tell why. A
//     touch of an absent page is a fault then, and all of a mapping that tracks
//     writes counts as written.
type Mapping struct {
	spec
	folder   string               // of the store
	editable bool                 // the bytes may be written
	mem      []byte               // whole pages
	first    atomic.Pointer[byte] // of mem, nil after Close
	memory   int                  // memfd
	table    *table
	fds      []int // in the order of a spec's descriptors; held until Close
	client   *client

	unnoted atomic.Bool // nobody notes any more what is written

	mu     sync.RWMutex // held for reading by every method but Close
	closed bool
}

// Map maps the store at path, or the folder of page files when o.Pages is set.
// It needs Linux 6.6.
//
// Many programs may map one store read-only at once, and each sees the store as
// it was when it was mapped. (If another program has changed it since, and the
// pager dies, absent pages become a SIGBUS: its successor can read only the
// newest generation.) Who maps it writable holds its lock until Close,
// and writes reach the store by Sync and by Close: if the program dies, the
// store is as at its last Sync.
//
// Errors match ErrDamaged, ErrLocked, ErrVersion, ErrPrivilege, ErrUnsupported,
// ErrNoHelper, or those of the file system.
func Map(path string, o Options) (*Mapping, error) {
	m, err := openMapping(path, o)
	if err != nil {
		return nil, during("map", path, err)
	}
	return m, nil
}

func openMapping(path string, o Options) (*Mapping, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	c, err := acquireClient(o.Pages != "")
	if err != nil {
		return nil, err
	}
	// A store that somebody writes may grow between the look at its size and its
	// opening for good.
	const tries = 10
	for range tries {
		var m *Mapping
		if m, err = c.open(abs, o); err == nil {
			return m, nil
		}
		if !errors.Is(err, errMoved) {
			break
		}
	}
	releaseClient(c)
	return nil, err
}

// open makes a mapping and has the pager serve it.
func (c *client) open(path string, o Options) (*Mapping, error) {
	m := &Mapping{client: c, memory: -1, editable: o.editable()}
	m.spec = spec{
		ID: c.newID(), Path: path, Pages: o.Pages,
		Writable: o.writesBack(), Tracked: m.editable && !o.NoTracking, Limit: o.MemoryLimit,
	}
	if err := m.build(); err != nil {
		m.unlock()
		m.free()
		return nil, err
	}
	c.add(m)
	if err := c.call(m.attachment()); err != nil {
		c.remove(m)
		m.unlock()
		m.free()
		return nil, err
	}
	return m, nil
}

// Bytes is the plain content, as long as Size. Writing to it is allowed with
// Options.Writable or Private; otherwise it is a fault. The slice is not valid
// after Close.
func (m *Mapping) Bytes() []byte {
	first := m.first.Load()
	if first == nil {
		return nil
	}
	return unsafe.Slice(first, m.spec.Size)
}

// Size is the number of bytes of the mapping.
func (m *Mapping) Size() int64 { return m.spec.Size }

// Sync writes all dirty frames back and commits them to the store at once: it
// holds every write that was finished before Sync began. Writes made meanwhile
// may be in or not, and are dirty still. When it fails all stay dirty, and the
// store is as at the last Sync. It does nothing for a mapping that can't be
// written, or is private.
func (m *Mapping) Sync() error {
	return m.request("sync", message{Verb: verbSync})
}

// Prefetch brings the pages of the ranges into memory, on all cores, and returns
// when they are there; with a MemoryLimit those that came first may have made room
// for the last. Frames that can't be read give an error, and so does a range that
// does not lie in the mapping.
func (m *Mapping) Prefetch(ranges ...Range) error {
	for len(ranges) > 0 {
		n := min(len(ranges), maxRanges)
		if err := m.request("prefetch", message{Verb: verbPrefetch, Ranges: ranges[:n]}); err != nil {
			return err
		}
		ranges = ranges[n:]
	}
	return nil
}

// Protect begins a new set of written pages: every write that begins after it
// has returned shows in Written. It changes nothing about what Sync will write.
func (m *Mapping) Protect() error {
	return m.request("protect", message{Verb: verbProtect})
}

// request asks the pager and waits for its answer, from its successor if it dies.
func (m *Mapping) request(act string, msg message) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return fmt.Errorf("%s %s: %w", act, m.Path, os.ErrClosed)
	}
	msg.ID = m.ID
	if err := m.client.call(msg); err != nil {
		return fmt.Errorf("%s %s: %w", act, m.Path, err)
	}
	return nil
}

// Stats are the figures of the mapping. After Close they are zero.
func (m *Mapping) Stats() Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return Stats{}
	}
	h := m.table.head
	s := Stats{
		Faults:      int64(h.faults.Load()),
		Writes:      int64(h.writes.Load()),
		Frames:      int64(h.loaded.Load()),
		ZeroFrames:  int64(h.zeros.Load()),
		Ahead:       int64(h.ahead.Load()),
		Damaged:     int64(h.poisoned.Load()),
		Evicted:     int64(h.evicted.Load()),
		WrittenBack: int64(h.stored.Load()),
		Takeovers:   int64(h.takeovers.Load()),
	}
	for range m.table.union(m.table.dirty, m.table.syncing, 0) {
		s.Dirty += m.FrameSize
	}
	if m.unnoted.Load() {
		s.Dirty = m.spec.Size
	}
	s.Resident = residentBytes(m.memory)
	return s
}

// Close syncs, as Sync does, and gives memory, lock and helpers back. The
// mapping is closed also when the sync fails, and what was dirty is lost then:
// call Sync before where that matters. Nobody may touch the bytes any more; it
// would be a fault.
func (m *Mapping) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("close %s: %w", m.Path, os.ErrClosed)
	}
	m.closed = true
	var syncErr error
	if m.Writable {
		syncErr = m.client.call(message{Verb: verbSync, ID: m.ID})
	}
	m.client.remove(m) // Helpers that begin now need not know it.
	detachErr := m.client.call(message{Verb: verbDetach, ID: m.ID})
	if detachErr == nil {
		m.unlock()
	}
	m.free()
	releaseClient(m.client)
	if err := cmp.Or(syncErr, detachErr); err != nil {
		return fmt.Errorf("close %s: %w", m.Path, err)
	}
	return nil
}
