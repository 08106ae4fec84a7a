package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Mkdir is mkdir(2).
func (m *mount) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	k := maker{in.Owner, in.Mode, in.Umask}
	return m.make(in.NodeId, name, k, out, func(dir place) error {
		return unix.Mkdirat(dir.fd, name, k.modeIn(dir))
	})
}

// Symlink is symlink(2).
func (m *mount) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return m.make(in.NodeId, name, maker{owner: in.Owner, mode: 0o777}, out, func(dir place) error {
		return unix.Symlinkat(target, dir.fd, name)
	})
}

// Mknod is mknod(2). A regular file becomes a store.
func (m *mount) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	k := maker{in.Owner, in.Mode, in.Umask}
	if in.Mode&unix.S_IFMT != unix.S_IFREG {
		return m.make(in.NodeId, name, k, out, func(dir place) error {
			return unix.Mknodat(dir.fd, name, in.Mode&unix.S_IFMT|k.modeIn(dir), int(in.Rdev))
		})
	}
	dir, err := m.absent(in.NodeId, name)
	if err != nil {
		return status(err)
	}
	defer dir.done()
	c, err := m.create(dir, name, k)
	if err != nil {
		return status(err)
	}
	if c.file != nil {
		defer m.files.release(c.file)
	}
	return status(m.lookedUp(dir, &c.entry, out))
}

// make makes what is no regular file: call makes it, as name in folder id.
func (m *mount) make(id uint64, name string, k maker, out *fuse.EntryOut, call func(place) error) fuse.Status {
	dir, err := m.absent(id, name)
	if err != nil {
		return status(err)
	}
	defer dir.done()
	if err := call(dir); err != nil {
		return status(err)
	}
	e := entry{backing: name}
	fd, err := unix.Openat(dir.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return status(err)
	}
	defer unix.Close(fd)
	if err := m.own(dir, fd, k, &e.st); err != nil {
		return status(err)
	}
	return status(m.lookedUp(dir, &e, out))
}

// Readlink is readlink(2).
func (m *mount) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	n := m.nodes.get(in.NodeId)
	if n == nil {
		return nil, fuse.Status(unix.ESTALE)
	}
	u, err := m.useInode(n)
	if err != nil {
		return nil, status(err)
	}
	defer m.done(u)
	buf := make([]byte, unix.PathMax)
	size, err := unix.Readlinkat(u.fd, "", buf)
	return buf[:max(size, 0)], status(err)
}

// Link is link(2).
func (m *mount) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	n := m.nodes.get(in.Oldnodeid)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	dir, err := m.absent(in.NodeId, name)
	if err != nil {
		return status(err)
	}
	defer dir.done()
	e := entry{backing: name, store: n.store}
	if n.store {
		var ok bool
		if e.backing, ok = storeName(name); !ok {
			return fuse.Status(unix.ENAMETOOLONG)
		}
	}
	f, err := m.pin(n)
	if err != nil {
		return status(err)
	}
	defer m.files.release(f)
	if err := unix.Linkat(unix.AT_FDCWD, procPath(f.path), dir.fd, e.backing, unix.AT_SYMLINK_FOLLOW); err != nil {
		return status(err)
	}
	f.touched(nil)
	f.setGone(false)
	m.nodes.named(n)
	n.setFresh()
	if err := unix.Fstat(f.path, &e.st); err != nil {
		return status(err)
	}
	if size, ok := f.plainSize(); ok {
		e.size = size
	} else if n.store {
		e.size = m.sizeOf(f, &e.st)
	}
	return status(m.lookedUp(dir, &e, out))
}

// Unlink is unlink(2).
func (m *mount) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return status(m.remove(h.NodeId, name, 0))
}

// Rmdir is rmdir(2).
func (m *mount) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return status(m.remove(h.NodeId, name, unix.AT_REMOVEDIR))
}

func (m *mount) remove(id uint64, name string, flags int) error {
	dir, err := m.folderFor(id)
	if err != nil {
		return err
	}
	defer dir.done()
	e, err := m.find(dir, name)
	if err != nil {
		return err
	}
	m.nodes.mu.Lock()
	m.nodes.hold(dir, &e)
	err = unix.Unlinkat(dir.fd, e.backing, flags)
	if err == nil {
		m.nodes.unlinked(dir.node, &e)
	}
	m.nodes.mu.Unlock()
	if err == nil {
		m.lostName(&e)
	}
	return err
}

// unlinked notes that e is gone from dir. It is called with mu held.
func (t *nodes) unlinked(dir *node, e *entry) {
	n := t.byInode[shown{inodeOf(&e.st), e.store}]
	if n == nil {
		return
	}
	t.dropLink(n, link{dir, e.backing})
	if n.isDir() {
		t.moveFolder(n, nil, "")
	}
	if n.isDir() || e.st.Nlink <= 1 {
		t.detach(n)
	}
}

// lostName notes that one name of e's inode is gone. A file without a
// name need not be durable.
func (m *mount) lostName(e *entry) {
	f := m.files.get(shown{inodeOf(&e.st), e.store})
	if f == nil {
		return
	}
	f.touched(nil)
	if e.st.Nlink <= 1 {
		f.setGone(true)
	}
	m.files.release(f)
}
