package fs

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// procPath is a path to what fd refers to, whatever its name is now. It leads
// straight to the inode, so that a symbolic link is not followed (proc(5)).
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// reopen opens what the O_PATH descriptor fd refers to.
func reopen(fd, flags int) (int, error) {
	return unix.Open(procPath(fd), flags|unix.O_CLOEXEC, 0)
}

// reopenQuietly is reopen for reads that are no user's reads: they leave no trace
// in the atime, where that is allowed (to the owner and root, open(2)).
func reopenQuietly(fd, flags int) (int, error) {
	re, err := reopen(fd, flags|unix.O_NOATIME)
	if err == unix.EPERM {
		re, err = reopen(fd, flags)
	}
	return re, err
}

// openNoAtime opens a file for reading without leaving a trace in its atime,
// where that is allowed (to its owner and root).
func openNoAtime(dirfd int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(dirfd, name, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = unix.Openat(dirfd, name, flags, 0)
	}
	return fd, err
}
