package fs

import (
	"slices"

	"golang.org/x/sys/unix"
)

// capabilityAttr is the attribute of file capabilities (capabilities(7)).
const capabilityAttr = "security.capability"

// privileges are what the backing kernel takes from a file whenever its store is
// written to: capabilities, and, unless the mount is root's, the set-user-ID and
// set-group-ID bits. What a user gives a file that is open is given to it again after
// that. A change of the content that really takes it away is told by the kernel.
type privileges struct {
	capability []byte
	bits       uint32
}

// giveBack gives them to the inode that path refers to.
func (p *privileges) giveBack(path int) error {
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
	change := func() error {
		err := set()
		if err == unix.ENODATA && f != nil && attr == capabilityAttr && f.privileges.capability != nil {
			return nil // The backing kernel has taken it, and it was not given back yet.
		}
		return err
	}
	return f.setPrivileges(change, func(p *privileges) {
		if attr == capabilityAttr {
			p.capability = slices.Clone(value)
		}
	})
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
	if err := f.setBits(left, func() error { return unix.Chmod(procPath(f.path), left) }); err != nil {
		return err
	}
	n.setAltered()
	// After a direct write the kernel goes on to believe the mode that it knows.
	f.m.dropAttr(f.shown)
	return nil
}
