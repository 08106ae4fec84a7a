package fs

import (
	"slices"

	"golang.org/x/sys/unix"
)

// capabilityAttr is the attribute of file capabilities (capabilities(7)).
const capabilityAttr = "security.capability"

// privileges are what the backing kernel takes from a file whenever it is written to:
// capabilities, and, unless the mount is root's, the set-user-ID and set-group-ID bits.
// What a file has when it is opened for writing, or a user gives it after that, is given
// to it again. A change of the content that really takes it away is told by the kernel; to
// write to a mapping is none.
type privileges struct {
	known      bool // what follows is what users see
	capability []byte
	bits       uint32
}

// notePrivileges notes what the inode of f has, which is about to be opened for writing.
func (f *file) notePrivileges() {
	f.times.Lock()
	defer f.times.Unlock()
	if f.privileges.known {
		return
	}
	f.privileges = privileges{known: true}
	var st unix.Stat_t
	if !f.m.asRoot {
		if unix.Fstat(f.path, &st) == nil {
			f.privileges.bits = st.Mode & (unix.S_ISUID | unix.S_ISGID)
		}
		return // Capabilities only root may give.
	}
	b := make([]byte, 24) // struct vfs_ns_cap_data (include/uapi/linux/capability.h)
	if n, err := unix.Getxattr(procPath(f.path), capabilityAttr, b); err == nil {
		f.privileges.capability = b[:n]
	}
}

// hasPrivileges tells whether f has any, which are not durable when its store is.
func (f *file) hasPrivileges() bool {
	f.times.Lock()
	defer f.times.Unlock()
	return f.privileges.capability != nil || f.privileges.bits != 0
}

// getXAttr is getxattr(2) of path, which is f unless that is nil. What f has noted holds
// also where the backing kernel has just taken it.
func (f *file) getXAttr(path, attr string, dest []byte) (int, error) {
	if f != nil && f.m.asRoot && attr == capabilityAttr {
		f.times.Lock()
		known, value := f.privileges.known, f.privileges.capability
		f.times.Unlock()
		switch {
		case known && value == nil:
			return 0, unix.ENODATA
		case known:
			return fillXAttr(value, dest)
		}
	}
	return unix.Getxattr(path, attr, dest)
}

// giveBack gives f its privileges again. It is called with times held.
func (f *file) giveBack() {
	if err := f.privileges.giveTo(f.path); err != nil {
		f.m.logOnce("%s: give privileges back: %v", f.name, err)
	}
}

// giveTo gives them to the inode that path refers to.
func (p *privileges) giveTo(path int) error {
	if p.capability != nil {
		if err := unix.Setxattr(procPath(path), capabilityAttr, p.capability, 0); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if p.bits == 0 {
		return nil
	}
	if err := unix.Fstat(path, &st); err != nil || p.bits&^st.Mode == 0 {
		return err
	}
	return unix.Chmod(procPath(path), st.Mode&0o7777|p.bits)
}

// setBits changes the mode by set, which leaves these of the bits.
func (f *file) setBits(bits uint32, set func() error) error {
	return f.setPrivileges(set, func(p *privileges) { p.bits = bits & (unix.S_ISUID | unix.S_ISGID) })
}

// setAttr changes an extended attribute by set, to value or, if that is nil, to none.
func (f *file) setAttr(attr string, value []byte, set func() error) error {
	if f == nil || attr != capabilityAttr {
		return f.setPrivileges(set, func(*privileges) {})
	}
	change := func() error {
		f.giveBack() // The caller may ask for none to be there, or for some.
		err := set()
		if err == unix.ENODATA && f.privileges.capability != nil {
			return nil // The backing kernel has just taken it again.
		}
		return err
	}
	return f.setPrivileges(change, func(p *privileges) { p.capability = slices.Clone(value) })
}

// setPrivileges changes the inode by set, and then notes in f, unless that is nil, what
// it has. A settle comes before or after both.
func (f *file) setPrivileges(set func() error, note func(*privileges)) error {
	if f == nil {
		return set()
	}
	f.times.Lock()
	defer f.times.Unlock()
	if err := set(); err != nil {
		return err
	}
	note(&f.privileges)
	f.settled = false
	return nil
}

// dropPrivileges clears the set-user-ID bit, and the set-group-ID bit of an
// executable. The kernel leaves that to the file system where a user who may not
// keep them changes the content (FUSE_HANDLE_KILLPRIV_V2, Linux 5.11), and asks for
// security.capability only once for many writes then. n is the node of f that is changed.
func (f *file) dropPrivileges(n *node) error {
	var st unix.Stat_t
	if err := unix.Fstat(f.path, &st); err != nil {
		return err
	}
	f.times.Lock()
	st.Mode |= f.privileges.bits
	f.times.Unlock()
	drop := st.Mode & unix.S_ISUID
	if st.Mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP {
		drop |= unix.S_ISGID
	}
	if drop == 0 {
		return nil
	}
	left := st.Mode & 0o7777 &^ drop
	set := func() error {
		err := unix.Chmod(procPath(f.path), left)
		if err == unix.EPERM {
			return nil // This user does not own the file: the change itself takes them.
		}
		return err
	}
	if err := f.setBits(left, set); err != nil {
		return err
	}
	n.setAltered()
	// After a direct write the kernel goes on to believe the mode that it knows.
	f.m.dropAttr(f.shown)
	return nil
}
