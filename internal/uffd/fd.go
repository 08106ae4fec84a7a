package uffd

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mode says which faults of a range are caught.
type Mode uint64

// The modes of Register. Together they are one range's mode.
const (
	ModeMissing Mode = 1 << 0 // a touch of an absent page, Linux 4.3
	ModeWP      Mode = 1 << 1 // a write to a protected page, Linux 5.7
	ModeMinor   Mode = 1 << 2 // a touch of a page that only the file has, Linux 5.13
)

// An FD is a userfaultfd. Its methods return os.ErrClosed after Close.
type FD struct {
	fd           int
	features     Features
	userModeOnly bool

	// uses counts the calls at work, times two, plus one when closed. The one
	// who brings it to exactly one closes the descriptor, so that no call ever
	// meets a number that something else was opened under.
	uses atomic.Int64
}

// FromFd makes an FD of a descriptor that was received from another process,
// and owns it. features are those it was opened with; nothing in the kernel
// tells them.
func FromFd(fd int, features Features) *FD {
	return &FD{fd: fd, features: features}
}

// Features are the features that are switched on.
func (u *FD) Features() Features { return u.features }

// UserModeOnly says that system calls which touch an absent or protected page
// of a registered range fail with EFAULT instead of being served. It is not
// known, and false, for a descriptor from FromFd.
func (u *FD) UserModeOnly() bool { return u.userModeOnly }

// Fd is the number of the descriptor, to wait on it or to send it. It stays the
// property of u and is meaningless after Close.
func (u *FD) Fd() int { return u.fd }

// Close closes the descriptor as soon as no method is at work on it. When it is
// the last copy anywhere, missing pages of its ranges become zeros from then on
// and protection is lifted.
func (u *FD) Close() error {
	for {
		n := u.uses.Load()
		if n&1 != 0 {
			return os.ErrClosed
		}
		if u.uses.CompareAndSwap(n, n|1) {
			if n == 0 {
				return unix.Close(u.fd)
			}
			return nil
		}
	}
}

// Register begins to catch the faults m of the pages in [addr, addr+len). A range
// may be registered on one descriptor only: EBUSY otherwise.
func (u *FD) Register(addr, len uintptr, m Mode) error {
	arg := registerArg{start: uint64(addr), len: uint64(len), mode: uint64(m)}
	if err := u.ioctl(iocRegister, unsafe.Pointer(&arg)); err != nil {
		return fmt.Errorf("register %#x bytes at %#x: %w", len, addr, err)
	}
	return nil
}

// Unregister stops catching faults in the range, lifts its protection and wakes
// its waiters: absent pages become zeros.
func (u *FD) Unregister(addr, len uintptr) error {
	arg := rangeArg{start: uint64(addr), len: uint64(len)}
	if err := u.ioctl(iocUnregister, unsafe.Pointer(&arg)); err != nil {
		return fmt.Errorf("unregister %#x bytes at %#x: %w", len, addr, err)
	}
	return nil
}

// acquire enters a call on the descriptor; release leaves it.
func (u *FD) acquire() bool {
	for {
		n := u.uses.Load()
		if n&1 != 0 {
			return false
		}
		if u.uses.CompareAndSwap(n, n+2) {
			return true
		}
	}
}

func (u *FD) release() {
	if u.uses.Add(-2) == 1 {
		unix.Close(u.fd)
	}
}

func (u *FD) ioctl(req uintptr, arg unsafe.Pointer) error {
	if !u.acquire() {
		return os.ErrClosed
	}
	err := ioctl(u.fd, req, arg)
	u.release()
	return err
}

// quickIoctl is ioctl for what takes no longer than a scheduler's turn.
func (u *FD) quickIoctl(req uintptr, arg unsafe.Pointer) error {
	if !u.acquire() {
		return os.ErrClosed
	}
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(u.fd), req, uintptr(arg))
	u.release()
	if errno != 0 {
		return errno
	}
	return nil
}

// ioctl returns a unix.Errno or nil.
func ioctl(fd int, req uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}
