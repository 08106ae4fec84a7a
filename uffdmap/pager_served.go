package uffdmap

import (
	"errors"
	"fmt"
	"os"
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
	Pages     string `json:",omitempty"` // pattern of page files
	Writable  bool   `json:",omitempty"` // the store is written back
	Tracked   bool   `json:",omitempty"` // pages are protected until they are written
	Limit     int64  `json:",omitempty"` // bytes of resident memory, with a spill file
	Features  uffd.Features
}

// The descriptors of a mapping, in the order in which they travel. A folder of
// page files has no store, and without a limit there is no spill file.
const (
	fdUffd = iota
	fdMemory
	fdTable
	fdStore
)

func (s *spec) hasStore() bool { return s.Pages == "" }

func (s *spec) fdCount() int {
	n := fdTable + 1
	if s.hasStore() {
		n++
	}
	if s.hasSpill() {
		n++
	}
	return n
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
// Locks are taken in this order: gate, syncing, evictor, locks. Who holds the
// lock of one frame waits for no other.
type served struct {
	spec
	fds    []int // as received, for the next standby; uffd owns the first
	uffd   *uffd.FD
	memory int // memfd; read by pread only, and nowhere mapped
	spill  int // file for dirty frames that were evicted, -1 without a limit
	table  *table
	pool   *pool

	source store.Source
	store  *store.Store // the same when Writable, otherwise nil
	broken error        // why there is no source

	gate    sync.RWMutex // held for reading while anything is done
	closed  bool         // set with gate held
	syncing sync.Mutex   // one write-back at a time
	unclean bool         // the last write-back failed; guarded by syncing

	locks   *lockSet // of frames: their presence, their protection, their bits
	ahead   ahead
	evictor evictor
}

// openServed makes a served of what the program or a dead pager handed over; it
// owns the descriptors from then on, also on error. A source that can't be opened
// is no error but makes the mapping broken: its absent pages are poisoned rather
// than waited for.
func openServed(h holding) (*served, error) {
	m := &served{spec: h.spec, fds: h.fds, memory: h.fds[fdMemory], spill: -1, locks: newLockSet()}
	if m.hasSpill() {
		m.spill = h.fds[len(h.fds)-1]
	}
	var err error
	if m.table, err = mapTable(h.fds[fdTable], m.frames(), true); err != nil {
		closeAll(h.fds)
		return nil, err
	}
	m.uffd = uffd.FromFd(h.fds[fdUffd], m.Features)
	m.table.restoreDirty()
	m.ahead.reset(m.FrameSize, m.windowBytes())
	if err := m.openSource(); err != nil {
		m.broken = err
		m.source = brokenSource{m.Size, int(m.FrameSize), err}
	}
	m.source = wrapSource(m.source)
	return m, nil
}

// wrapSource stands between a mapping and its source. Tests make slow sources
// with it.
var wrapSource = func(s store.Source) store.Source { return s }

// openSource opens what the pages come from.
func (m *served) openSource() error {
	if !m.hasStore() {
		p, err := store.OpenPages(m.Path, m.Pages)
		if err != nil {
			return err
		}
		m.source = p
		return m.sameSource()
	}
	// The copy shares its locks with the program's descriptor, which keeps them
	// when this process dies.
	fd, err := unix.FcntlInt(uintptr(m.fds[fdStore]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open store %s: %w", m.Path, err)
	}
	s, err := store.OpenFile(os.NewFile(uintptr(fd), m.Path), store.Options{Writable: m.Writable})
	if err != nil {
		return err
	}
	m.source = s
	if m.Writable {
		m.store = s
		return m.sameSource()
	}
	// Absent pages of another generation would not fit those in memory.
	known := &m.table.head.generation
	if !known.CompareAndSwap(0, s.Generation()) && known.Load() != s.Generation() {
		err = fmt.Errorf("open store %s: another program wrote generation %d while generation %d was mapped", m.Path, s.Generation(), known.Load())
		return errors.Join(err, s.Discard())
	}
	return m.sameSource()
}

// errMoved says that a source is not what the program saw when it made the
// memory for it.
var errMoved = errors.New("it changed while it was opened")

func (m *served) sameSource() error {
	if m.source.Size() != m.Size || int64(m.source.FrameSize()) != m.FrameSize {
		return fmt.Errorf("open %s: %w: it has %d bytes in frames of %d, want %d in %d",
			m.Path, errMoved, m.source.Size(), m.source.FrameSize(), m.Size, m.FrameSize)
	}
	return nil
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
// is left as at its last write-back; clean says to close it in good order if
// that was whole.
func (m *served) close(clean bool) error {
	m.gate.Lock()
	defer m.gate.Unlock()
	m.closed = true
	var err error
	switch {
	case m.broken != nil:
	case m.store != nil && (m.unclean || !clean):
		err = m.store.Discard()
	default:
		err = m.source.Close()
	}
	m.uffd.Close()
	closeAll(m.fds[fdUffd+1:])
	m.table.close()
	return err
}

// present says whether the page at off is in memory. A page that was swapped out
// counts.
func (m *served) present(off int64) bool {
	data, err := unix.Seek(m.memory, off, unix.SEEK_DATA)
	return err == nil && data == off
}

// complete says whether all pages of [off, off+length) are in memory. It asks for
// each, because SEEK_HOLE would walk on to the next hole, however far that is.
func (m *served) complete(off, length int64) bool {
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
