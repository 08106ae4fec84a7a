package test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// userModeOnly is UFFD_USER_MODE_ONLY of linux/userfaultfd.h (Linux 5.11).
const userModeOnly = 1

// The machine has what lazyfs is about. Where it hasn't, this fails, so that no
// run of the tests is green for want of a kernel to test with.
func TestMachine(t *testing.T) {
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Errorf("mounts can't be tested: %v", err)
	} else {
		fuse.Close()
	}

	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errors.Is(errno, unix.EPERM) && os.Geteuid() != 0 {
		fd, _, errno = unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|userModeOnly, 0, 0)
	}
	if errno != 0 {
		t.Errorf("mappings can't be tested: userfaultfd: %v", errno)
	} else {
		unix.Close(int(fd))
	}
}
