package uffdmap

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

const (
	pageSize     = store.PageSize
	maxFrameSize = store.MaxFrameSize
)

// A spec describes a served mapping to the processes that serve it.
type spec struct {
	ID        int32
	Base      uint64 // address in the program
	Len       int64  // bytes of memory, whole pages
	Size      int64  // plain bytes of the source
	FrameSize int64
	Path      string // of the store, or of the folder of page files, absolute
	Pages     string `json:"-"`          // pattern of page files; see message.Pages
	Writable  bool   `json:",omitempty"` // the store is written back
	Tracked   bool   `json:",omitempty"` // pages are protected until they are written
	Limit     int64  `json:",omitempty"` // bytes of resident memory, with a spill file
	Features  uffd.Features
}

// The descriptors of a mapping, in the order in which they travel.
const (
	fdUffd   = iota
	fdMemory // the pages
	fdTable
	fdSource // the store, or the folder of page files
	fdSpill  // only with hasSpill
)

func (s *spec) fdCount() int {
	if s.hasSpill() {
		return fdSpill + 1
	}
	return fdSource + 1
}

// hasSpill says that dirty frames may be evicted.
func (s *spec) hasSpill() bool { return s.Limit > 0 && s.Tracked }

// windowBytes bounds what is filled at one fault.
func (s *spec) windowBytes() int64 {
	if s.Limit > 0 {
		return min(maxWindow, s.Limit/4)
	}
	return maxWindow
}

// frames is the number of frames of the mapping.
func (s *spec) frames() int64 { return (s.Size + s.FrameSize - 1) / s.FrameSize }

// extent is where frame n lies in the mapping, in whole pages.
func (s *spec) extent(n int64) (off, length int64) {
	off = n * s.FrameSize
	return off, min(s.FrameSize, s.Len-off)
}

// A served is a mapping in its pager.
//
// Locks are taken in this order: gate, syncing, evictor, handing, locks, lifting; and
// handing, alone, by who has the lock of a frame that was copied already. Who holds
// the lock of one frame waits for no other.
type served struct {
	spec
	fds    []int // as received, for the next standby; uffd owns the first
	uffd   *uffd.FD
	memory int // memfd; read by pread only, and nowhere mapped
	spill  int // file for dirty frames that were evicted, -1 without a limit
	table  *table
	pool   *pool

	loading int // touches that are being answered from the source; guarded by pool.mu

	source store.Source
	late   *lateStore // the same when Writable
	broken error      // why there is neither

	gate    sync.RWMutex // held for reading while anything is done
	closed  bool         // set with gate held
	syncing sync.Mutex   // one write-back at a time
	unclean bool         // the last write-back failed; guarded by syncing
	handing sync.RWMutex // held for reading while frames are copied and given to the store

	expect sync.Once // by the first write

	locks *lockSet // of frames: their presence, their protection, their bits

	lifting   sync.RWMutex        // held for reading by who lets a write through; guards what follows
	snapshots map[int32]*snapshot // under way

	ahead   ahead
	evictor evictor
}

// openServed makes a served of what the program or a dead pager handed over; it
// owns the descriptors from then on, also on error. awaited says that somebody may
// wait for its pages already. A source that can't be opened is no error but makes the
// mapping broken: its absent pages are poisoned rather than waited for.
func openServed(h holding, awaited bool) (*served, error) {
	m := &served{spec: h.spec, fds: h.fds, memory: h.fds[fdMemory], spill: -1}
	m.locks = newLockSet(m.wake)
	if m.hasSpill() {
		m.spill = h.fds[fdSpill]
	}
	var err error
	if m.table, err = mapTable(h.fds[fdTable], m.frames(), true); err != nil {
		closeAll(h.fds)
		return nil, err
	}
	m.uffd = uffd.FromFd(h.fds[fdUffd], m.Features)
	m.table.restoreDirty()
	m.ahead.reset(m.FrameSize, m.windowBytes())
	source, err := m.openSource(awaited)
	if err != nil {
		m.broken = err
		source = brokenSource{m.Size, int(m.FrameSize), err}
	}
	m.source = wrapSource(source)
	return m, nil
}

// wrapSource stands between a mapping and its source. Tests make slow sources
// with it.
var wrapSource = func(s store.Source) store.Source { return s }

// openSource opens what the pages come from, which must be what the program saw.
// It works on a copy of the descriptor, that shares the locks of the program's:
// they are kept when this process dies.
func (m *served) openSource(awaited bool) (store.Source, error) {
	f, err := duplicate(m.fds[fdSource], m.Path)
	if err != nil {
		return nil, err
	}
	if m.Pages != "" {
		p, err := store.OpenPagesAt(f, m.Pages)
		if err != nil {
			return nil, err
		}
		// Pages that were added behind the end don't matter.
		if p.Size() < m.Size {
			return nil, errors.Join(m.moved(p), p.Close())
		}
		return p, nil
	}
	if m.Writable {
		m.late = openLate(&m.spec, f, awaited)
		return m.late, nil
	}
	s, err := openAs(&m.spec, f, store.Options{})
	if err != nil {
		return nil, err
	}
	// Absent pages of another generation would not fit those in memory.
	known := &m.table.head.generation
	if !known.CompareAndSwap(0, s.Generation()) && known.Load() != s.Generation() {
		err = fmt.Errorf("open store %s: another program wrote generation %d while generation %d was mapped", m.Path, s.Generation(), known.Load())
		return nil, errors.Join(err, s.Discard())
	}
	return s, nil
}

// errMoved says that a source is not what the program saw when it made the
// memory for it.
var errMoved = errors.New("it changed while it was opened")

// moved is errMoved for the source src that was opened for s.
func (s *spec) moved(src store.Source) error {
	return fmt.Errorf("open %s: %w: it has %d bytes in frames of %d, want %d in %d",
		s.Path, errMoved, src.Size(), src.FrameSize(), s.Size, s.FrameSize)
}

// sound returns why there is no source, nil when there is one. A store that is being
// opened for writing it waits for.
func (m *served) sound() error {
	if m.late != nil {
		_, err := m.late.wait()
		return err
	}
	return m.broken
}

// enter begins something with m, and says false when m is closed. leave ends it.
// Nobody enters twice.
func (m *served) enter() bool {
	m.gate.RLock()
	if m.closed {
		m.gate.RUnlock()
	}
	return !m.closed
}

func (m *served) leave() { m.gate.RUnlock() }

// close waits for what is being done with m and gives everything back. A store
// is left as at its last write-back, and closed in good order if that was whole.
func (m *served) close() error {
	m.gate.Lock()
	defer m.gate.Unlock()
	m.closed = true
	var err error
	switch {
	case m.sound() != nil:
	case m.late != nil && m.unclean:
		err = m.late.store.Discard()
	default:
		err = m.source.Close()
	}
	for id := range m.snapshots {
		m.dropSnapshot(id)
	}
	m.uffd.Close()
	closeAll(m.fds[fdUffd+1:])
	m.table.close()
	return err
}

// wake lets everybody look again who waits for frame n.
func (m *served) wake(n int64) {
	off, length := m.extent(n)
	m.uffd.Wake(m.addr(off), uintptr(length))
}

// present says whether the page at off is in memory. A page that was swapped out
// counts.
func (m *served) present(off int64) bool {
	data, err := unix.Seek(m.memory, off, unix.SEEK_DATA)
	return err == nil && data == off
}

// absent says whether no page of frame n is in memory.
func (m *served) absent(n int64) bool {
	off, length := m.extent(n)
	data, err := unix.Seek(m.memory, off, unix.SEEK_DATA)
	return err != nil || data >= off+length
}

// complete says whether all pages of [off, off+length) are in memory.
func (m *served) complete(off, length int64) bool {
	// One call that takes no lock. Pages that were swapped out count as evicted.
	var in unix.Cachestat_t
	err := unix.Cachestat(uint(m.memory), &unix.CachestatRange{Off: uint64(off), Len: uint64(length)}, &in, 0)
	if err != nil { // A sandbox may not know it.
		return m.completeBySeek(off, length)
	}
	return in.Cache+in.Evicted == uint64(length/pageSize)
}

// completeBySeek is complete by asking for each page: SEEK_HOLE would walk on to the
// next hole, however far that is.
func (m *served) completeBySeek(off, length int64) bool {
	for page := off; page < off+length; page += pageSize {
		if !m.present(page) {
			return false
		}
	}
	return true
}

// A brokenSource fails all reads, for a store that could not be opened again.
type brokenSource struct {
	size      int64
	frameSize int
	err       error
}

func (b brokenSource) Size() int64                           { return b.size }
func (b brokenSource) FrameSize() int                        { return b.frameSize }
func (b brokenSource) ReadAt([]byte, int64) (int, error)     { return 0, b.err }
func (b brokenSource) ReadFrame(int64, []byte) (bool, error) { return false, b.err }
func (b brokenSource) Close() error                          { return nil }
