package main

import (
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
