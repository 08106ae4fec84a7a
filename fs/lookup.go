package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Lookup finds a name in a folder.
func (m *mount) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir := m.nodes.get(h.NodeId)
	if dir == nil {
		return fuse.Status(unix.ESTALE)
	}
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

// Forget tells that the kernel gives up lookups of a node.
func (m *mount) Forget(id, lookups uint64) { m.nodes.forget(id, lookups) }
