package fs

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// ownAttrs begins the names of the extended attributes that are the mount's own.
// They can be read but not changed, and are not listed: a program that copies all
// attributes of a file neither copies them nor stumbles over them.
const ownAttrs = "user.lazyfs."

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

// atName calls do with a folder and the name in it of node id, which is neither a
// folder nor open. That costs less than to open it. Otherwise it reports false.
func (m *mount) atName(id uint64, do func(dirfd int, name string) error) (bool, error) {
	n := m.nodes.get(id)
	if n == nil || n.isDir() || m.files.has(n.shown()) {
		return false, nil
	}
	return m.nodes.atName(n, do)
}

// ownAttr is the value of the mount's own attribute name of node id: "ratio",
// "codec" or "frames" of a store, as of its last commit.
func (m *mount) ownAttr(id uint64, name string) (value string, err error) {
	n := m.nodes.get(id)
	switch {
	case n == nil:
		return "", unix.ESTALE
	case !n.store || !slices.Contains([]string{"ratio", "codec", "frames"}, name):
		return "", unix.ENODATA
	}
	f, err := m.openFile(n, false)
	if err != nil {
		return "", err
	}
	defer m.files.release(f)
	err = f.use(func(s *store.Store) error {
		info, err := s.Info()
		if err != nil {
			return err
		}
		switch name {
		case "ratio":
			value = fmt.Sprintf("%.2f", info.Ratio())
		case "codec":
			value = info.Codec
		case "frames":
			value = framesText(&info)
		}
		return nil
	})
	return value, err
}

// framesText is the size of a frame, in bytes, and how many there are of each kind:
// "16384 hole=3 lz4=20".
func framesText(i *store.Info) string {
	var b strings.Builder
	fmt.Fprint(&b, i.FrameSize)
	for _, kind := range slices.Sorted(maps.Keys(i.Frames)) {
		if n := i.Frames[kind]; n > 0 {
			fmt.Fprintf(&b, " %s=%d", kind, n)
		}
	}
	return b.String()
}

// fillXAttr is getxattr(2) of what has value; an empty dest asks for its length.
func fillXAttr(value, dest []byte) (int, error) {
	if len(dest) > 0 && len(dest) < len(value) {
		return 0, unix.ERANGE
	}
	copy(dest, value)
	return len(value), nil
}

// changePath is withPath for a change of the inode.
func (m *mount) changePath(id uint64, do func(path string, f *file) error) error {
	if !m.opt.Writable {
		return unix.EROFS
	}
	n := m.nodes.get(id)
	return m.withPath(id, func(path string, f *file) error {
		if err := do(path, f); err != nil {
			return err
		}
		m.nodes.altered(n)
		if f != nil {
			f.touched()
		}
		return nil
	})
}

// GetXAttr is getxattr(2).
func (m *mount) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	if own, ok := strings.CutPrefix(attr, ownAttrs); ok {
		value, err := m.ownAttr(h.NodeId, own)
		if err != nil {
			return 0, status(err)
		}
		size, err := fillXAttr([]byte(value), dest)
		return uint32(size), status(err)
	}
	var size int
	done, err := m.atName(h.NodeId, func(dirfd int, name string) (err error) {
		size, err = getXAttrAt(dirfd, name, attr, dest)
		return err
	})
	if !done {
		err = m.withPath(h.NodeId, func(path string, f *file) (err error) {
			size, err = f.getXAttr(path, attr, dest)
			return err
		})
	}
	// Before the kernel lets anyone in but the owner it asks for the list, and a failure
	// would be that of the open.
	if err == unix.EOPNOTSUPP && attr == accessListAttr {
		err = unix.ENODATA
	}
	return uint32(max(size, 0)), status(err)
}

// accessListAttr is the attribute of access control lists (acl(5)), which not every
// file system has.
const accessListAttr = "system.posix_acl_access"

// ListXAttr is listxattr(2).
func (m *mount) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	var size int
	err := m.withPath(h.NodeId, func(path string, f *file) (err error) {
		if f != nil {
			f.settle()
		}
		size, err = unix.Listxattr(path, dest)
		return err
	})
	return uint32(max(size, 0)), status(err)
}

// SetXAttr is setxattr(2).
func (m *mount) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	if strings.HasPrefix(attr, ownAttrs) {
		return fuse.EPERM
	}
	return status(m.changePath(in.NodeId, func(path string, f *file) error {
		set := func() error { return unix.Setxattr(path, attr, data, int(in.Flags)) }
		if err := f.setAttr(attr, data, set); err != nil || in.SetXAttrFlags&killSGID == 0 {
			return err
		}
		return dropSGID(path, f)
	}))
}

// killSGID is FUSE_SETXATTR_ACL_KILL_SGID (include/uapi/linux/fuse.h): the caller, who
// sets an access control list, is not in the group of the file.
const killSGID = 1

// dropSGID clears the set-group-ID bit of what is at path, which is f if that is open.
func dropSGID(path string, f *file) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_ISGID == 0 {
		return err
	}
	left := st.Mode & 0o7777 &^ unix.S_ISGID
	return f.setBits(left, func() error { return unix.Chmod(path, left) })
}

// RemoveXAttr is removexattr(2).
func (m *mount) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string) fuse.Status {
	if strings.HasPrefix(attr, ownAttrs) {
		return fuse.EPERM
	}
	return status(m.changePath(h.NodeId, func(path string, f *file) error {
		return f.setAttr(attr, nil, func() error { return removeXAttr(path, attr) })
	}))
}

// removeXAttr is removexattr(2), and for capabilities what a change of the content does,
// before which the kernel asks for that: they go whoever the user of this process is, as
// they do by chown(2).
func removeXAttr(path, attr string) error {
	err := unix.Removexattr(path, attr)
	if err == unix.EPERM && attr == capabilityAttr {
		return unix.Chown(path, -1, -1)
	}
	return err
}
