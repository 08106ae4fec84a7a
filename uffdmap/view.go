package uffdmap

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// A Viewer is a View mapping: private memory of the size of a store, whose
// frames are brought in by the calls that ask for them.
//
// Its methods may be called from many goroutines at once. A frame that several
// of them want is decompressed once.
type Viewer struct {
	path  string
	src   store.Source
	store *store.Store // src where it may be written, otherwise nil
	size  int64        // bytes

	frameShift uint8 // log2 of the frame size
	editable   bool  // Edit and WriteAt work
	untracked  bool  // the kernel is not asked to track writes
	limit      int64 // bytes; 0: none

	mem     memory // whole frames
	uffd    *uffd.FD
	scratch scratchPool
	staging scratchPool // huge pages

	// frames holds a word for each frame: its state and how often it is pinned.
	frames  []atomic.Uint64
	tables  []memory // what frames and the page sets lie in
	waiting waitList
	ahead   readAhead

	// Pages that were written. What the kernel knows is added to dirty by
	// collect.
	pagemap int // descriptor, -1 when the kernel does not track writes
	scanner scanner
	dirty   pageSet // newer in memory than in the store
	spilled pageSet // written to the store, not committed

	resident atomic.Int64 // bytes of frames in memory or on their way into it
	evictor  viewEvictor
	passing  sync.RWMutex // held for reading by who lets go of frames soon; see pass
	expect   sync.Once    // by the first who may write

	syncing   sync.Mutex   // one Sync at a time; taken after life
	handing   sync.RWMutex // held for reading while frames are copied and given to the store
	restoring sync.Mutex   // one restore at a time; taken after syncing and handing
	life      sync.RWMutex // held shared by every call, alone by Close; guards closed
	closed    bool
	spans     atomic.Int64 // spans not yet released, times two, plus one when closed

	count counters
}

// counters are those of Stats that only grow.
type counters struct {
	faults, frames, zeros, ahead, damaged, evicted, writtenBack atomic.Int64
}

// Open maps the store at path, or, with Options.Pages, the folder of page files
// there. It reads no frame.
//
// It fails with what store.Open gives, ErrLocked for instance, and with
// ErrPrivilege or ErrUnsupported where the kernel does not provide a
// userfaultfd; one for user mode only is enough.
func Open(path string, o Options) (*Viewer, error) {
	v, err := openViewer(path, o)
	if err != nil {
		return nil, during("open view of", path, err)
	}
	return v, nil
}

func openViewer(path string, o Options) (*Viewer, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	v := &Viewer{
		path: path, limit: o.MemoryLimit, pagemap: -1,
		editable: o.editable(), untracked: o.NoTracking,
	}
	if err := v.openSource(o); err != nil {
		return nil, err
	}
	v.size = v.src.Size()
	v.frameShift = uint8(bits.TrailingZeros(uint(v.src.FrameSize())))
	v.evictor.init(v)
	if o.MemoryLimit > 0 && o.MemoryLimit < v.frameSize() {
		return nil, errors.Join(fmt.Errorf("%w: %d bytes do not hold one frame of %d", ErrLimit, o.MemoryLimit, v.frameSize()), v.discard())
	}
	if err := v.setUp(); err != nil {
		v.tearDown()
		return nil, errors.Join(err, v.discard())
	}
	return v, nil
}

func (v *Viewer) openSource(o Options) error {
	if o.Pages != "" {
		pages, err := store.OpenPages(v.path, o.Pages)
		if err != nil {
			return err
		}
		v.src = pages
		return nil
	}
	s, err := store.Open(v.path, store.Options{Writable: o.writesBack()})
	if err != nil {
		return err
	}
	v.src = s
	if o.writesBack() {
		v.store = s
	}
	return nil
}

// setUp makes the memory, its tables, and the userfaultfd that guards it. What
// it made before an error is tearDown's.
func (v *Viewer) setUp() error {
	if err := v.setUpMemory(); err != nil {
		return err
	}
	if err := v.setUpTables(); err != nil {
		return err
	}
	return v.setUpTracking()
}

func (v *Viewer) setUpMemory() error {
	prot := unix.PROT_READ
	if v.editable {
		prot |= unix.PROT_WRITE
	}
	var err error
	if v.mem, err = mapMemory(max(v.frameCount(), 1)<<v.frameShift, prot); err != nil {
		return err
	}
	v.scratch.size = max(v.frameSize(), minScratch)
	v.staging.size, v.staging.huge = hugeSize, true
	if err := keepFromChildren(v.mem.b); err != nil {
		return err
	}
	if !v.editable && v.limit == 0 {
		return nil
	}
	return refuseHugePages(v.mem.b)
}

func (v *Viewer) setUpTables() error {
	var err error
	if v.frames, err = newTable[atomic.Uint64](v, v.frameCount()); err != nil || !v.editable {
		return err
	}
	pages := int64(len(v.mem.b)) / store.PageSize
	if err := v.dirty.init(v, pages); err != nil {
		return err
	}
	return v.spilled.init(v, pages)
}

// setUpTracking guards the memory with a userfaultfd, and lets the kernel track
// writes where it can and there are any.
func (v *Viewer) setUpTracking() error {
	var optional uffd.Features
	if v.editable && !v.untracked {
		if fd, err := uffd.OpenPagemap(0); err == nil {
			v.pagemap = fd
			optional = uffd.FeatureWPAsync
		}
	}
	var err error
	if v.uffd, err = uffd.Open(uffd.FeatureSIGBUS, optional|uffd.FeatureMove); err != nil {
		return err
	}
	if v.uffd.Features()&uffd.FeatureWPAsync != 0 {
		err = v.uffd.Register(v.mem.addr, uintptr(len(v.mem.b)), uffd.ModeMissing|uffd.ModeWP)
		if !errors.Is(err, unix.EINVAL) { // arm64 has no ModeWP before Linux 6.10.
			return err
		}
	}
	v.closePagemap()
	return v.uffd.Register(v.mem.addr, uintptr(len(v.mem.b)), uffd.ModeMissing)
}

// tracked says whether the kernel knows which pages were written. Otherwise all
// pages of an Edit count.
func (v *Viewer) tracked() bool { return v.pagemap >= 0 }

func (v *Viewer) closePagemap() {
	if v.pagemap >= 0 {
		unix.Close(v.pagemap)
		v.pagemap = -1
	}
}

// Size is the number of bytes of the mapping, which is that of the store when it
// was opened, and does not change.
func (v *Viewer) Size() int64 { return v.size }

func (v *Viewer) frameSize() int64      { return 1 << v.frameShift }
func (v *Viewer) frameCount() int64     { return (v.size + v.frameSize() - 1) >> v.frameShift }
func (v *Viewer) frameOf(o int64) int64 { return o >> v.frameShift }

// bytesOf is the memory of n frames from first on, past the end of the store too.
func (v *Viewer) bytesOf(first, n int64) []byte {
	return v.mem.b[first<<v.frameShift : (first+n)<<v.frameShift]
}

// enter begins a call, which leave ends; Close waits for it.
func (v *Viewer) enter() error {
	v.life.RLock()
	if v.closed {
		v.life.RUnlock()
		return fmt.Errorf("view of %s: %w", v.path, os.ErrClosed)
	}
	return nil
}

func (v *Viewer) leave() { v.life.RUnlock() }

// Close does what Sync does, closes the mapping, and returns the error of the
// sync: after it the store is as it was at the Sync before.
//
// The bytes of spans that are still held stay as they are until Release; what is
// written to them after Close is lost.
func (v *Viewer) Close() error {
	v.life.Lock()
	defer v.life.Unlock()
	if v.closed {
		return fmt.Errorf("view of %s: %w", v.path, os.ErrClosed)
	}
	err := v.sync()
	v.closed = true
	if err == nil {
		err = v.src.Close()
	} else {
		// A close that commits would store half of what the sync was to store.
		v.discard()
	}
	if v.spans.Or(1) == 0 {
		v.tearDown()
	}
	if err != nil {
		return fmt.Errorf("close view of %s: %w", v.path, err)
	}
	return nil
}

// discard closes the store without a commit.
func (v *Viewer) discard() error {
	if v.store != nil {
		return v.store.Discard()
	}
	return v.src.Close()
}

// tearDown gives back the memory and the descriptors.
func (v *Viewer) tearDown() {
	v.closePagemap()
	v.mem.unmap()
	if v.uffd != nil {
		v.uffd.Close()
	}
	for _, t := range v.tables {
		t.unmap()
	}
	v.scratch.unmap()
	v.staging.unmap()
}
