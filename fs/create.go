package fs

import (
	"os"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// newFlags opens a new file. Its reads by package store are no user's reads.
const newFlags = unix.O_RDWR | unix.O_NOATIME | unix.O_CLOEXEC

// folderFor returns folder id for a change of its names.
func (m *mount) folderFor(id uint64) (place, error) {
	switch {
	case !m.opt.Writable:
		return place{}, unix.EROFS
	case m.single != "" && id == m.root.id:
		return place{}, unix.EPERM
	}
	return m.useFolder(id)
}

func (m *mount) isSingleRoot(n *node) bool { return m.single != "" && n == m.root }

// absent returns folder id if it does not show name.
func (m *mount) absent(id uint64, name string) (place, error) {
	dir, err := m.folderFor(id)
	if err != nil {
		return place{}, err
	}
	if _, err = m.find(dir, name); err == unix.ENOENT {
		return dir, nil
	}
	dir.done()
	if err == nil {
		err = unix.EEXIST
	}
	return place{}, err
}

// Create makes and opens a regular file.
func (m *mount) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	dir, err := m.absent(in.NodeId, name)
	if err == unix.EEXIST && in.Flags&unix.O_EXCL == 0 {
		// Somebody else was faster. The kernel looks again, and then opens and empties
		// what is there, as the caller wants it.
		return fuse.Status(unix.ESTALE)
	}
	if err != nil {
		return status(err)
	}
	defer dir.done()
	c, err := m.create(dir, name, newMaker(dir, in.Owner, in.Mode, in.Umask))
	if err != nil {
		return status(err)
	}
	return m.created(dir, c, in.Flags, out)
}

// Tmpfile makes a store without a name (O_TMPFILE), which link(2) may give one.
func (m *mount) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	dir, err := m.folderFor(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer dir.done()
	k := newMaker(dir, in.Owner, in.Mode, in.Umask)
	fd, err := unix.Openat(dir.fd, ".", unix.O_TMPFILE|newFlags, k.mode)
	if err != nil {
		return status(err)
	}
	c, err := m.newStore(dir, fd, "file without a name", k)
	if err != nil {
		return status(err)
	}
	c.file.setGone(true)
	return m.created(dir, c, in.Flags, out)
}

// A creation is a regular file that was just made.
type creation struct {
	entry entry // backing is empty if it has no name
	file  *file // nil: a plain file
	fd    int   // of a plain file, to read and to write by, whatever its mode; otherwise -1
}

// drop gives up what is open of c.
func (m *mount) drop(c creation) {
	if c.file != nil {
		m.files.release(c.file)
		return
	}
	unix.Close(c.fd)
}

// bindNew fills out with c, which was made in dir, and counts a lookup of its node.
func (m *mount) bindNew(dir place, c *creation, out *fuse.EntryOut) (*node, error) {
	n, err := m.nodes.bind(dir, &c.entry)
	if err != nil {
		return nil, err
	}
	n.setFresh(false)
	m.fillEntry(n, &c.entry, out)
	return n, nil
}

// created answers the kernel with a handle of c.
func (m *mount) created(dir place, c creation, flags uint32, out *fuse.CreateOut) fuse.Status {
	n, err := m.bindNew(dir, &c, &out.EntryOut)
	if err != nil {
		m.drop(c)
		return status(err)
	}
	h := &handle{node: n, file: c.file, fd: c.fd, writes: flags&unix.O_ACCMODE != unix.O_RDONLY}
	if c.file == nil {
		if h.file, err = m.pin(n); err != nil {
			m.drop(c)
			m.nodes.forget(n.id, 1)
			return status(err)
		}
		h.file.notePrivileges()
	}
	m.showContent(n, h.file)
	out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	out.Fh = m.handles.add(h)
	return fuse.OK
}

// create makes the regular file name in dir, which does not show that name: a
// store, or a plain file where the store's backing name is taken.
func (m *mount) create(dir place, name string, k maker) (creation, error) {
	backing, ok := StoreName(name)
	if !ok {
		return m.createPlain(dir, name, k)
	}
	c, err := m.createStore(dir, backing, k)
	if err == unix.EEXIST {
		return m.createPlain(dir, name, k)
	}
	return c, err
}

// createStore makes a store with that backing name in dir. It has the name when it is
// complete.
func (m *mount) createStore(dir place, backing string, k maker) (creation, error) {
	fd, err := unix.Openat(dir.fd, ".", unix.O_TMPFILE|newFlags, k.mode)
	if err == unix.EOPNOTSUPP || err == unix.EISDIR {
		return m.createNamed(dir, backing, k)
	}
	if err != nil {
		return creation{}, err
	}
	c, err := m.newStore(dir, fd, backing, k)
	if err != nil {
		return creation{}, err
	}
	if err := unix.Linkat(unix.AT_FDCWD, procPath(c.file.path), dir.fd, backing, unix.AT_SYMLINK_FOLLOW); err != nil {
		c.file.setGone(true)
		m.drop(c)
		return creation{}, err
	}
	c.entry.backing, c.entry.st.Nlink = backing, 1
	return c, nil
}

// createNamed is createStore where the backing file system has no files without a name
// (O_TMPFILE in open(2)).
func (m *mount) createNamed(dir place, backing string, k maker) (creation, error) {
	fd, err := unix.Openat(dir.fd, backing, unix.O_CREAT|unix.O_EXCL|newFlags, k.mode)
	if err != nil {
		return creation{}, err
	}
	c, err := m.newStore(dir, fd, backing, k)
	if err != nil {
		unix.Unlinkat(dir.fd, backing, 0)
		return creation{}, err
	}
	c.entry.backing = backing
	return c, nil
}

// newStore makes a store in the empty file fd, which it owns. Messages call it name.
func (m *mount) newStore(dir place, fd int, name string, k maker) (creation, error) {
	c := creation{entry: entry{store: true}, fd: -1}
	st := &c.entry.st
	if err := m.own(dir, fd, k, st); err != nil {
		unix.Close(fd)
		return c, err
	}
	m.nodes.anew(inodeOf(st))
	path, err := reopen(fd, unix.O_PATH)
	if err != nil {
		unix.Close(fd)
		return c, err
	}
	s, err := store.CreateFile(os.NewFile(uintptr(fd), name), *m.newStores())
	if err != nil {
		unix.Close(path)
		return c, err
	}
	f := &file{m: m, shown: shown{inodeOf(st), true}, path: path, name: name}
	f.notePrivileges()
	f.set(s, true, st)
	// A store that has no byte yet was not synced either.
	f.since = time.Now()
	f.uncommitted.Store(true)
	if err = unix.Fstat(path, st); err == nil {
		c.file, err = m.files.add(f)
	}
	if err != nil {
		unix.Close(path)
		s.Discard()
	}
	return c, err
}

// newStores says what new stores are like.
func (m *mount) newStores() *store.CreateOptions {
	return &store.CreateOptions{
		Codec:      m.opt.Codec,
		Level:      m.opt.Level,
		FrameSize:  m.opt.FrameSize,
		Cache:      m.cache,
		DirtyBytes: dirtyBytes,
	}
}

// createPlain makes a file that is no store.
func (m *mount) createPlain(dir place, name string, k maker) (creation, error) {
	c := creation{entry: entry{backing: name}}
	var err error
	c.fd, err = unix.Openat(dir.fd, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, k.mode)
	if err != nil {
		return c, err
	}
	if err := m.own(dir, c.fd, k, &c.entry.st); err != nil {
		unix.Unlinkat(dir.fd, name, 0)
		m.drop(c)
		return c, err
	}
	m.nodes.anew(inodeOf(&c.entry.st))
	return c, nil
}
