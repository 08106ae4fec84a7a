package main

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// remount changes the kernel's view of a mount that is there: whether it can be
// written to, and what is restricted, where the options name it. All else stays.
func (m *mounter) remount(dir string) error {
	dir, err := resolveMountDir(dir)
	if err != nil {
		return err
	}
	point, err := findMount(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if m.rw {
		if err := point.checkWritable(); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	flags, err := remountFlags(dir)
	if err != nil {
		return err
	}
	if m.fake {
		return nil
	}
	if err := unix.Mount("", dir, "", m.changed(flags), ""); err != nil {
		return fmt.Errorf("%s: remount: %w", dir, err)
	}
	return nil
}

// checkWritable refuses a mount to which its daemon lets nobody write.
func (p mountPoint) checkWritable() error {
	r, err := openRecord(p)
	if r == nil || err != nil {
		return err
	}
	defer r.file.Close()
	if !r.Writable {
		return errors.New("its daemon serves it read-only: unmount it first")
	}
	return nil
}

// changed is flags of mount(2) with what the options name changed.
func (m *mounter) changed(flags uintptr) uintptr {
	set := func(flag uintptr, on bool) {
		flags &^= flag
		if on {
			flags |= flag
		}
	}
	if m.flagSet.Changed("rw") {
		set(unix.MS_RDONLY, !m.rw)
	}
	for name, on := range m.options.named {
		set(restrictions[name], on)
	}
	return flags
}

// remountFlags are the flags of mount(2) that leave the mount at dir as it is. It keeps
// its times of access without one.
func remountFlags(dir string) (uintptr, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	// These have the same values in statfs(2) and in mount(2).
	const same = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_SYNCHRONOUS
	flags := unix.MS_REMOUNT | uintptr(st.Flags)&same
	if st.Flags&stNosymfollow != 0 {
		flags |= unix.MS_NOSYMFOLLOW
	}
	return flags, nil
}

// stNosymfollow is ST_NOSYMFOLLOW of statfs(2) (Linux 5.10).
const stNosymfollow = 0x2000
