package fs

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A handle is what the kernel has open.
type handle struct {
	node   *node
	file   *file       // nil for a folder
	fd     int         // of a file that passes through, otherwise -1
	dir    *folder     // nil for a file
	writes bool        // is open for writing
	closed atomic.Bool // a descriptor of it was closed, which has told of losses until then
	losses int         // of file, which are known; guarded by file.times
}

// handles numbers the open handles.
type handles struct {
	mu   sync.RWMutex // guards what follows
	open map[uint64]*handle
	last uint64
}

func (t *handles) add(h *handle) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = make(map[uint64]*handle)
	}
	t.last++
	t.open[t.last] = h
	return t.last
}

// get returns handle fh, which stays open until the kernel releases it.
func (t *handles) get(fh uint64) *handle {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.open[fh]
}

// written returns the nodes by which f, or any file if that is nil, is open for writing.
func (t *handles) written(f *file) []*node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	seen := make(map[*node]bool)
	for _, h := range t.open {
		if h.writes && (f == nil || h.file == f) {
			seen[h.node] = true
		}
	}
	return slices.Collect(maps.Keys(seen))
}

// all returns the open handles by their numbers.
func (t *handles) all() map[uint64]*handle {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.open)
}

func (t *handles) remove(fh uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fh]
	delete(t.open, fh)
	return h
}

// openFile returns the file of n, with one reference more, whose store is open if
// it has one.
func (m *mount) openFile(n *node, write bool) (*file, error) {
	f, err := m.pin(n)
	if err != nil {
		return nil, err
	}
	if err := m.openStore(n, f, write); err != nil {
		m.files.release(f)
		return nil, err
	}
	return f, nil
}

// openStore opens the store of f, the file of n, if it has one.
func (m *mount) openStore(n *node, f *file, write bool) error {
	f.opening.Lock()
	defer f.opening.Unlock()
	if m.nodes.isReplaced(n) || m.isRemoved(n, f) {
		return unix.ESTALE
	}
	if !n.store {
		return nil
	}
	opened, inval, err := f.need(write)
	if inval {
		m.dropPages(n)
	}
	if err != nil || !opened {
		return err
	}
	return m.showEnd(n, f)
}

// isRemoved tells whether others have taken the last name of n, whose file is f. What is
// written to it is lost, and the kernel may believe in the name for a while.
func (m *mount) isRemoved(n *node, f *file) bool {
	var st unix.Stat_t
	if f.nameless() || unix.Fstat(f.path, &st) != nil || st.Nlink > 0 {
		return false
	}
	return m.nodes.stat(n, &st) == unix.ESTALE
}

// openPlain opens the backing file of h, which is no store, as flags of open(2) say, and
// makes the kernel see its end. direct says that the kernel has to do without its pages.
func (m *mount) openPlain(h *handle, flags uint32) (direct bool, err error) {
	if h.writes {
		h.file.notePrivileges()
	}
	if h.fd, direct, err = h.file.openPlain(flags); err != nil {
		return false, err
	}
	if err := m.showPlainEnd(h); err != nil {
		unix.Close(h.fd)
		return false, err
	}
	return direct, nil
}

// openPlain opens f, which is no store, as flags of open(2) say.
//
// Offsets are the kernel's, so the backing file is not opened for appending. A handle to
// write by is one to read by, too: the kernel writes mapped pages through any handle,
// and reads what is around a part of a page that is written. Where this user may not
// read f, direct says that the kernel has to do without its pages.
func (f *file) openPlain(flags uint32) (fd int, direct bool, err error) {
	mode := int(flags) & unix.O_ACCMODE
	if mode != unix.O_WRONLY {
		fd, err = reopen(f.path, mode)
		return fd, false, err
	}
	fd, err = reopen(f.path, unix.O_RDWR)
	if errors.Is(err, unix.EACCES) {
		fd, err = reopen(f.path, unix.O_WRONLY)
		return fd, true, err
	}
	return fd, false, err
}

// pin returns the file of n, with one reference more. Its path finds the inode.
func (m *mount) pin(n *node) (*file, error) {
	if f := m.files.get(n.shown()); f != nil {
		return f, nil
	}
	// Where nothing is written a store is opened once, as long as f is there.
	fd, name, readable, err := m.nodes.openPath(n, n.store && !m.opt.Writable)
	if err != nil {
		return nil, err
	}
	f, err := m.files.add(&file{m: m, shown: n.shown(), path: fd, readable: readable, name: name, gone: name == ""})
	if err != nil || f.path != fd {
		unix.Close(fd)
	}
	if err != nil {
		return nil, err
	}
	if err := m.nodes.failure(n.shown()); err != nil {
		f.fail(err)
	}
	return f, nil
}

// Open opens a file.
func (m *mount) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := m.nodes.get(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	write := in.Flags&unix.O_ACCMODE != unix.O_RDONLY
	if write && !m.opt.Writable {
		return fuse.EROFS
	}
	f, err := m.openFile(n, write)
	if err != nil {
		return status(err)
	}
	h := &handle{node: n, file: f, fd: -1, writes: write}
	h.newLoss() // Of what was lost before others are told.
	if !n.store {
		direct, err := m.openPlain(h, in.Flags)
		if err != nil {
			m.files.release(f)
			return status(err)
		}
		if direct {
			out.OpenFlags |= fuse.FOPEN_DIRECT_IO
		}
	}
	if none := m.showContent(n, f); none {
		m.push(n, f)
	}
	out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	if !write {
		out.OpenFlags |= fuse.FOPEN_NOFLUSH
	}
	out.Fh = m.handles.add(h)
	return fuse.OK
}

// Release ends a handle. The kernel does not wait for it.
func (m *mount) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	h := m.handles.remove(in.Fh)
	if h == nil {
		return
	}
	h.settlePlain()
	if h.closed.Load() {
		m.keepLoss(h) // Of what was written to a mapping since then.
	}
	if h.fd >= 0 {
		unix.Close(h.fd)
	}
	m.files.release(h.file)
}
