package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Mkdir is mkdir(2).
func (m *mount) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return m.make(in.NodeId, name, in.Owner, in.Mode, in.Umask, out, func(dir place, mode uint32) error {
		return unix.Mkdirat(dir.fd, name, mode)
	})
}

// Symlink is symlink(2).
func (m *mount) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return m.make(in.NodeId, name, in.Owner, 0o777, 0, out, func(dir place, _ uint32) error {
		return unix.Symlinkat(target, dir.fd, name)
	})
}

// Mknod is mknod(2). A regular file becomes a store.
func (m *mount) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if in.Mode&unix.S_IFMT != unix.S_IFREG {
		return m.make(in.NodeId, name, in.Owner, in.Mode, in.Umask, out, func(dir place, mode uint32) error {
			return unix.Mknodat(dir.fd, name, in.Mode&unix.S_IFMT|mode, int(in.Rdev))
		})
	}
	dir, err := m.absent(in.NodeId, name)
	if err != nil {
		return status(err)
	}
	defer dir.done()
	c, err := m.create(dir, name, newMaker(dir, in.Owner, in.Mode, in.Umask))
	if err != nil {
		return status(err)
	}
	defer m.drop(c)
	_, err = m.bindNew(dir, &c, out)
	return status(err)
}

// make makes what is no regular file: call makes it, as name in folder id.
func (m *mount) make(id uint64, name string, owner fuse.Owner, mode, umask uint32, out *fuse.EntryOut, call func(dir place, mode uint32) error) fuse.Status {
	dir, err := m.absent(id, name)
	if err != nil {
		return status(err)
	}
	defer dir.done()
	k := newMaker(dir, owner, mode, umask)
	if err := call(dir, k.mode); err != nil {
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

// A maker is who makes something in a folder, and with which mode.
type maker struct {
	owner  fuse.Owner
	mode   uint32 // permissions, in which the umask is allowed for
	hasACL bool   // the folder has a default ACL, which cuts the mode further
}

// newMaker allows for the umask, unless dir has a default ACL, which then takes its
// place (umask(2)).
func newMaker(dir place, owner fuse.Owner, mode, umask uint32) maker {
	size, err := unix.Getxattr(procPath(dir.fd), "system.posix_acl_default", nil)
	if err == nil && size > 0 {
		return maker{owner, mode & 0o7777, true}
	}
	return maker{owner, mode & 0o7777 &^ umask, false}
}

// inherit is k with what the new inode st has from its folder, whose inode is parent.
func (k maker) inherit(st, parent *unix.Stat_t) maker {
	if k.hasACL {
		k.mode = k.mode&^0o777 | st.Mode&0o777
	}
	if parent.Mode&unix.S_ISGID != 0 {
		// The group is the folder's, and folders inherit the bit (inode(7)).
		k.owner.Gid = st.Gid
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			k.mode |= unix.S_ISGID
		}
	}
	return k
}

// own gives fd, which was just made in dir, to its owner and sets its mode, which
// the umask of this process has restricted. It fills st.
func (m *mount) own(dir place, fd int, k maker, st *unix.Stat_t) error {
	if err := unix.Fstat(fd, st); err != nil {
		return err
	}
	var parent unix.Stat_t
	if err := unix.Fstat(dir.fd, &parent); err != nil {
		return err
	}
	k = k.inherit(st, &parent)
	given := m.asRoot && (k.owner.Uid != st.Uid || k.owner.Gid != st.Gid)
	if given {
		if err := unix.Fchownat(fd, "", int(k.owner.Uid), int(k.owner.Gid), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	// chown(2) may have cleared bits of the mode.
	if (given || st.Mode&0o7777 != k.mode) && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(procPath(fd), k.mode); err != nil {
			return err
		}
	}
	return unix.Fstat(fd, st)
}
