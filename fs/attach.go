package fs

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// fsName is the kind of file system that df(1) and findmnt(8) show, behind "fuse.".
const fsName = "lazyfs"

// attach mounts source on dir, as root by mount(2), otherwise through fusermount3, and
// returns the descriptor of the mount's device. Nobody answers its requests yet.
func (m *mount) attach(source, dir string) (fd int, err error) {
	if !m.asRoot {
		return m.fusermountOn(source, dir) // It says who it is.
	}
	if fd, err = m.mountOn(source, dir); err != nil {
		return -1, fmt.Errorf("mount: %w", err)
	}
	return fd, nil
}

// mountOn mounts source on dir by mount(2).
func (m *mount) mountOn(source, dir string) (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return -1, os.NewSyscallError("stat", err)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	data := append([]string{
		fmt.Sprintf("fd=%d", fd),
		fmt.Sprintf("rootmode=%o", st.Mode&unix.S_IFMT),
		fmt.Sprintf("user_id=%d", os.Geteuid()),
		fmt.Sprintf("group_id=%d", os.Getegid()),
	}, m.kernelOptions()...)
	if err := unix.Mount(source, dir, "fuse."+fsName, m.mountFlags(), strings.Join(data, ",")); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// kernelOptions are the kernel's options of the mount (fuse(4)) but those that name its
// device and its owner.
func (m *mount) kernelOptions() []string {
	options := []string{"default_permissions", fmt.Sprintf("max_read=%d", maxRequest)}
	if m.opt.AllowOther {
		options = append(options, "allow_other")
	}
	return options
}

// mountFlags are the flags of mount(2). What only root can see may have no devices and
// give nobody privileges.
func (m *mount) mountFlags() (flags uintptr) {
	if !m.opt.AllowOther {
		flags = unix.MS_NOSUID | unix.MS_NODEV
	}
	if !m.opt.Writable {
		flags |= unix.MS_RDONLY
	}
	for _, r := range m.opt.Restrict {
		flags |= restrictions[r]
	}
	return flags
}

// restrictions are the flags of mount(2) that Options.Restrict may name.
var restrictions = map[string]uintptr{
	"nosuid": unix.MS_NOSUID,
	"nodev":  unix.MS_NODEV,
	"noexec": unix.MS_NOEXEC,
}
