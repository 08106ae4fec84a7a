package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// withPath calls do with a path to the backing inode of node id.
func (m *mount) withPath(id uint64, do func(path string, f *file) error) error {
	n := m.nodes.get(id)
	if n == nil {
		return unix.ESTALE
	}
	if m.isSingleRoot(n) {
		return unix.EOPNOTSUPP // It is no folder of the backing file system.
	}
	u, err := m.useInode(n)
	if err != nil {
		return err
	}
	defer m.done(u)
	return do(procPath(u.fd), u.file)
}

// changePath is withPath for a change of the inode.
func (m *mount) changePath(id uint64, do func(path string) error) error {
	if !m.opt.Writable {
		return unix.EROFS
	}
	return m.withPath(id, func(path string, f *file) error {
		err := do(path)
		if err == nil && f != nil {
			f.touched(nil)
		}
		return err
	})
}

// GetXAttr is getxattr(2).
func (m *mount) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	var size int
	err := m.withPath(h.NodeId, func(path string, _ *file) (err error) {
		size, err = unix.Getxattr(path, attr, dest)
		return err
	})
	return uint32(max(size, 0)), status(err)
}

// ListXAttr is listxattr(2).
func (m *mount) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	var size int
	err := m.withPath(h.NodeId, func(path string, _ *file) (err error) {
		size, err = unix.Listxattr(path, dest)
		return err
	})
	return uint32(max(size, 0)), status(err)
}

// SetXAttr is setxattr(2).
func (m *mount) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	return status(m.changePath(in.NodeId, func(path string) error {
		return unix.Setxattr(path, attr, data, int(in.Flags))
	}))
}

// RemoveXAttr is removexattr(2).
func (m *mount) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string) fuse.Status {
	return status(m.changePath(h.NodeId, func(path string) error {
		return unix.Removexattr(path, attr)
	}))
}
