package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// SetAttr is chmod(2), chown(2), truncate(2) and utimensat(2), in one request.
func (m *mount) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := m.nodes.get(in.NodeId)
	switch {
	case n == nil:
		return fuse.Status(unix.ESTALE)
	case !m.opt.Writable:
		return fuse.EROFS
	case m.isSingleRoot(n):
		return fuse.EPERM
	}
	if size, ok := in.GetSize(); ok {
		fh, _ := in.GetFh()
		if err := m.truncate(n, m.handles.get(fh), int64(size), in.Valid&fuse.FATTR_KILL_SUIDGID != 0); err != nil {
			return status(err)
		}
	}
	if in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID|fuse.FATTR_MODE|fuse.FATTR_ATIME|fuse.FATTR_MTIME) != 0 {
		altered, err := m.setInode(n, &in.SetAttrInCommon)
		if err != nil {
			return status(err)
		}
		if altered {
			m.nodes.altered(n)
		}
	}
	out.SetTimeout(valid)
	return status(m.attr(n, &out.Attr))
}

// setInode changes what the backing inode keeps: owner, mode, times, in that order,
// because a change of the owner may clear bits of the mode. It returns false if the
// kernel only told the times of a change of the content.
func (m *mount) setInode(n *node, in *fuse.SetAttrInCommon) (altered bool, err error) {
	u, err := m.useInode(n)
	if err != nil {
		return false, err
	}
	defer m.done(u)
	newOwner, err := u.setOwner(in)
	if err != nil {
		return false, err
	}
	newMode, err := u.setMode(n, in)
	if err != nil {
		return false, err
	}
	altered = newOwner || newMode
	switch {
	case in.Valid&(fuse.FATTR_ATIME|fuse.FATTR_MTIME) == 0:
	case !altered && n.mode == unix.S_IFREG && onlyTells(n, u, in):
		return false, nil
	default:
		err = setTimes(n, u, in)
	}
	if err == nil && u.file != nil {
		u.file.touched()
	}
	return true, err
}

// setOwner changes owner and group of u, if in has any, and tells whether it has.
func (u inUse) setOwner(in *fuse.SetAttrInCommon) (bool, error) {
	uid, gid := -1, -1
	if id, ok := in.GetUID(); ok {
		uid = int(id)
	}
	if id, ok := in.GetGID(); ok {
		gid = int(id)
	}
	if uid == -1 && gid == -1 {
		return false, nil
	}
	return true, u.file.setBits(0, func() error { return unix.Fchownat(u.fd, "", uid, gid, unix.AT_EMPTY_PATH) })
}

// setMode changes the mode of u, the inode of n, if in has one, and tells whether it has.
func (u inUse) setMode(n *node, in *fuse.SetAttrInCommon) (bool, error) {
	mode, ok := in.GetMode()
	switch {
	case !ok:
		return false, nil
	case n.mode == unix.S_IFLNK:
		return false, unix.EOPNOTSUPP
	}
	return true, u.file.setBits(mode, func() error { return unix.Chmod(procPath(u.fd), mode) })
}

// onlyTells tells whether in has but the mtime of u, the regular file n, as it is
// already, or as the kernel tells it after a change of the content.
func onlyTells(n *node, u inUse, in *fuse.SetAttrInCommon) bool {
	if in.Valid&fuse.FATTR_ATIME != 0 || in.Valid&fuse.FATTR_MTIME_NOW != 0 {
		return false
	}
	mtime := givenTime(false, in.Mtime, in.Mtimensec)
	if u.file.takeTimes(mtime, givenTime(false, in.Ctime, in.Ctimensec)) {
		return true
	}
	if u.file.isWritable() {
		return false
	}
	// With each change of the inode the kernel tells the mtime that it knows, although
	// others may have changed the content since.
	if n.wasToldMtime(mtime) {
		return true
	}
	var st unix.Stat_t
	if unix.Fstat(u.fd, &st) != nil || st.Mtim != mtime {
		return false
	}
	n.tellMtime(mtime)
	return true
}

// setTimes changes the times of u, the inode of n.
func setTimes(n *node, u inUse, in *fuse.SetAttrInCommon) error {
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	ts := []unix.Timespec{omit, omit}
	if in.Valid&fuse.FATTR_ATIME != 0 {
		ts[0] = givenTime(in.Valid&fuse.FATTR_ATIME_NOW != 0, in.Atime, in.Atimensec)
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		ts[1] = givenTime(in.Valid&fuse.FATTR_MTIME_NOW != 0, in.Mtime, in.Mtimensec)
	}
	set := func() error {
		err := unix.UtimesNanoAt(unix.AT_FDCWD, procPath(u.fd), ts, 0)
		if err == unix.EPERM {
			err = touch(u, in)
		}
		return err
	}
	if u.file == nil || ts[1] == omit {
		return set()
	}
	err := u.file.setMtime(ts[1], set)
	if err == nil {
		n.tellMtime(ts[1])
	}
	return err
}

// touch is setTimes where the user of this process may write u and does not own it. Others
// than the owner give no times but the present. The kernel asks for that as for any
// mtime, and tells when the content was changed as if somebody had chosen it.
func touch(u inUse, in *fuse.SetAttrInCommon) error {
	switch {
	case in.Valid&fuse.FATTR_ATIME == 0:
		return nil // The write itself has set the mtime.
	case in.Valid&fuse.FATTR_ATIME_NOW != 0:
		return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(u.fd), nil, 0)
	}
	return unix.EPERM
}

func givenTime(now bool, sec uint64, nsec uint32) unix.Timespec {
	if now {
		return fileNow()
	}
	return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
}

// truncate sets the size of n, through h unless that is nil. unprivileged tells that the
// caller's change of the content takes away the set-user-ID bit.
func (m *mount) truncate(n *node, h *handle, size int64, unprivileged bool) error {
	var f *file
	if h != nil {
		f = h.file // Also where n is replaced for those who open it.
	} else {
		var err error
		if f, err = m.openFile(n, true); err != nil {
			return err
		}
		defer m.files.release(f)
	}
	if unprivileged {
		if err := f.dropPrivileges(n); err != nil {
			return err
		}
	}
	if !n.store {
		f.mu.Lock()
		defer f.mu.Unlock()
		var err error
		if h != nil {
			err = unix.Ftruncate(h.fd, size) // Whatever the mode is by now.
		} else {
			err = unix.Truncate(procPath(f.path), size)
		}
		if err == nil {
			n.tellSize(size)
		}
		return err
	}
	if now, ok := f.plainSize(); ok && now == size {
		return nil // That is no change. Where it is to be one of the mtime the kernel tells.
	}
	return f.shrink(func(s *store.Store, grain int64) error {
		return s.Truncate(min((size+grain-1)/grain*grain, max(size, s.Size())))
	})
}
