package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Lookup finds a name in a folder.
func (m *mount) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir, err := m.useFolder(h.NodeId)
	if err != nil {
		return status(err)
	}
	defer dir.done()
	e, err := m.find(dir, name)
	if err == unix.ENOENT {
		// A node of number 0 lets the kernel remember that there is nothing.
		out.NodeId = 0
		out.SetEntryTimeout(valid)
		return fuse.OK
	}
	if err != nil {
		return status(err)
	}
	return status(m.lookedUp(dir, &e, out))
}

// useFolder opens folder id until done is called.
func (m *mount) useFolder(id uint64) (place, error) {
	n := m.nodes.get(id)
	if n == nil {
		return place{}, unix.ESTALE
	}
	return m.nodes.folders.use(n)
}

// Forget tells that the kernel gives up lookups of a node.
func (m *mount) Forget(id, lookups uint64) { m.nodes.forget(id, lookups) }

// An inUse is a node whose backing inode is open by an O_PATH descriptor.
type inUse struct {
	fd    int
	file  *file // nil for a folder
	place place
}

// useInode opens the backing inode of n until done is called.
func (m *mount) useInode(n *node) (u inUse, err error) {
	if n.isDir() {
		if u.place, err = m.nodes.folders.use(n); err == nil {
			u.fd = u.place.fd
		}
		return u, err
	}
	if u.file, err = m.pin(n); err == nil {
		u.fd = u.file.path
	}
	return u, err
}

func (m *mount) done(u inUse) {
	if u.file == nil {
		u.place.done()
		return
	}
	m.files.release(u.file)
}
