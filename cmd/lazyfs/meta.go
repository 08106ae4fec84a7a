package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// keepMeta gives the file at path, which must not be a symbolic link, the
// owner, mode and times of like. The owner needs privilege: without it the
// file stays the user's own, and loses set-user-id and set-group-id.
func keepMeta(path string, like fs.FileInfo) error {
	stat := like.Sys().(*syscall.Stat_t)
	mode := stat.Mode & 0o7777
	if err := os.Chown(path, int(stat.Uid), int(stat.Gid)); err != nil {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	// Chown clears these two bits, so the mode comes after it.
	if err := unix.Chmod(path, mode); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return keepTimes(path, stat, 0)
}

// keepLinkMeta is keepMeta for a symbolic link, which has no mode of its own.
func keepLinkMeta(path string, like fs.FileInfo) error {
	stat := like.Sys().(*syscall.Stat_t)
	_ = os.Lchown(path, int(stat.Uid), int(stat.Gid)) // as in keepMeta, it may be refused
	return keepTimes(path, stat, unix.AT_SYMLINK_NOFOLLOW)
}

func keepTimes(path string, stat *syscall.Stat_t, flags int) error {
	times := []unix.Timespec{unix.Timespec(stat.Atim), unix.Timespec(stat.Mtim)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, flags); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// A fileMeta is what writing to a file takes from it besides its content.
type fileMeta struct {
	info       fs.FileInfo
	capability []byte // the attribute of file capabilities; empty when there are none
}

// capabilityAttr is the attribute of file capabilities (capabilities(7)).
const capabilityAttr = "security.capability"

func readMeta(f *os.File) (fileMeta, error) {
	info, err := f.Stat()
	if err != nil {
		return fileMeta{}, err
	}
	var b [64]byte                                            // There are versions of 20 and 24 bytes.
	n, _ := unix.Fgetxattr(int(f.Fd()), capabilityAttr, b[:]) // What can't be read there isn't.
	return fileMeta{info, b[:max(n, 0)]}, nil
}

// putBack gives f its mode, times and capabilities again, as far as this user may.
func (m fileMeta) putBack(f *os.File) error {
	if err := keepMeta(fdPath(f), m.info); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	if len(m.capability) == 0 {
		return nil
	}
	if err := unix.Fsetxattr(int(f.Fd()), capabilityAttr, m.capability, 0); err != nil && err != unix.EPERM {
		return fmt.Errorf("%s: set file capabilities: %w", f.Name(), err)
	}
	return nil
}
