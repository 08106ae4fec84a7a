package uffd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	// ErrPrivilege says that the kernel has what was asked for, and that this
	// process may not use it.
	ErrPrivilege = errors.New("no privilege to use userfaultfd")
	// ErrUnsupported says that this kernel lacks something; the text names it.
	ErrUnsupported = errors.New("not supported by this kernel")

	// errShort says that a way may work at another time.
	errShort = errors.New("no descriptor or memory left for a userfaultfd")
)

// An OpenError tells why no userfaultfd could be had. It matches the errno of each
// way, and, unless any failed for want of descriptors or memory, ErrPrivilege when any
// failed for want of permission, otherwise ErrUnsupported.
type OpenError struct {
	Tries []Try // in the order they were made
}

// A Try is one way to a userfaultfd, and why it failed.
type Try struct {
	Way string // "/dev/userfaultfd", "userfaultfd(2)", "userfaultfd(USER_MODE_ONLY)"
	Err error
}

func (e *OpenError) Error() string {
	var b strings.Builder
	b.WriteString(e.kind().Error())
	for i, t := range e.Tries {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s: %v", sep, t.Way, t.Err)
	}
	return b.String()
}

// Unwrap gives the kind of the failure and the errors of all tries.
func (e *OpenError) Unwrap() []error {
	errs := []error{e.kind()}
	for _, t := range e.Tries {
		errs = append(errs, t.Err)
	}
	return errs
}

func (e *OpenError) kind() error {
	switch {
	case e.any(unix.EMFILE, unix.ENFILE, unix.ENOMEM):
		return errShort
	case e.any(unix.EPERM, unix.EACCES):
		return ErrPrivilege
	}
	return ErrUnsupported
}

// any says whether any way failed with one of these.
func (e *OpenError) any(errnos ...unix.Errno) bool {
	return slices.ContainsFunc(e.Tries, func(t Try) bool {
		return slices.ContainsFunc(errnos, func(n unix.Errno) bool { return errors.Is(t.Err, n) })
	})
}

// ways are the ways to a descriptor, the most capable first: a descriptor made
// with USER_MODE_ONLY serves no fault that a system call takes on the memory,
// the call fails with EFAULT instead.
var ways = []struct {
	name         string
	userModeOnly bool
	open         func() (fd int, err error)
}{
	{"/dev/userfaultfd", false, openDevice},
	{"userfaultfd(2)", false, func() (int, error) { return openSyscall("syscall", 0) }},
	{"userfaultfd(USER_MODE_ONLY)", true, func() (int, error) { return openSyscall("usermode", userModeOnly) }},
}

// Open makes a userfaultfd with the features in want and those of optional that
// the kernel has. It tries /dev/userfaultfd, then userfaultfd(2), then the same
// with USER_MODE_ONLY. The descriptor does not block and is closed on exec.
//
// When no way leads to a descriptor the error is an *OpenError. A kernel that
// lacks a feature of want gives an error that matches ErrUnsupported and names
// the feature and the Linux that brought it.
func Open(want, optional Features) (*FD, error) {
	var failed OpenError
	for _, way := range ways {
		offered, err := query(way.open)
		if err != nil {
			failed.Tries = append(failed.Tries, Try{way.name, err})
			continue
		}
		if lacks := want &^ offered; lacks != 0 {
			return nil, fmt.Errorf("%w: userfaultfd lacks %s", ErrUnsupported, lacks.needs())
		}
		enable := want | optional&offered
		fd, err := way.open()
		if err != nil {
			return nil, fmt.Errorf("%s again: %w", way.name, err)
		}
		if _, err := handshake(fd, enable); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("%s with %v: %w", way.name, enable, err)
		}
		return &FD{fd: fd, features: enable, userModeOnly: way.userModeOnly}, nil
	}
	return nil, &failed
}

// query opens a descriptor to learn what the kernel offers, and closes it: a
// descriptor takes UFFDIO_API only once, and refuses bits it does not know.
func query(open func() (int, error)) (Features, error) {
	fd, err := open()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	offered, err := handshake(fd, 0)
	return offered &^ maskedFeatures(), err
}

// handshake does UFFDIO_API and returns the features the kernel offers.
func handshake(fd int, enable Features) (Features, error) {
	arg := apiArg{api: apiVersion, features: uint64(enable)}
	if err := ioctl(fd, iocAPI, unsafe.Pointer(&arg)); err != nil {
		return 0, fmt.Errorf("UFFDIO_API: %w", err)
	}
	return Features(arg.features), nil
}

func openDevice() (int, error) {
	if masked("dev") {
		return -1, unix.ENOENT
	}
	dev, err := unix.Open("/dev/userfaultfd", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dev)
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(dev), iocNew, unix.O_CLOEXEC|unix.O_NONBLOCK)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func openSyscall(mask string, flags uintptr) (int, error) {
	if masked(mask) {
		return -1, unix.EPERM
	}
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK|flags, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
