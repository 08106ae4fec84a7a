package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

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
		if e.backing, ok = StoreName(name); !ok {
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
	f.touched()
	f.setGone(false)
	m.nodes.named(n)
	n.setFresh(false)
	if err := unix.Fstat(f.path, &e.st); err != nil {
		return status(err)
	}
	if n.store {
		if e.size, err = m.sizeOf(f, &e.st); err != nil {
			return status(err)
		}
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
	if err := m.nodes.unlink(dir, &e, flags); err != nil {
		return err
	}
	m.lostName(&e)
	return nil
}

func (t *nodes) unlink(dir place, e *entry, flags int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.hold(dir, e)
	if err := unix.Unlinkat(dir.fd, e.backing, flags); err != nil {
		t.letGo(held)
		return err
	}
	t.unlinked(dir.node, e)
	return nil
}

// unlinked notes that e is gone from dir. It is called with mu held.
func (t *nodes) unlinked(dir *node, e *entry) {
	n := t.byInode[e.shown()]
	if n == nil {
		return
	}
	t.dropLink(n, link{dir, e.backing})
	if n.isDir() {
		t.moveFolder(n, nil, "")
	}
	if n.isDir() || e.st.Nlink <= 1 {
		t.detach(n)
	} else {
		n.setFresh(true)
	}
}

// lostName notes that one name of e's inode is gone. A file without a name need
// not be durable.
func (m *mount) lostName(e *entry) {
	f := m.files.get(e.shown())
	if f == nil {
		return
	}
	f.touched()
	if e.st.Nlink <= 1 {
		f.setGone(true)
	}
	m.files.release(f)
}
