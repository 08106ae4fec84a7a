package fs

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// xattrArgs is struct xattr_args of 64-bit machines, an argument of getxattrat(2) (Linux 6.13).
type xattrArgs struct {
	value unsafe.Pointer
	size  uint32 // bytes there
	flags uint32
}

var _ [16]byte = [unsafe.Sizeof(xattrArgs{})]byte{}

// getXAttrAt is lgetxattr(2) for name in the folder dirfd, an O_PATH descriptor.
func getXAttrAt(dirfd int, name, attr string, dest []byte) (int, error) {
	n, err := getxattrat(dirfd, name, attr, dest)
	// An older kernel does not know the call, or a sandbox forbids it; getxattr(2)
	// has no EPERM of its own.
	if err == unix.ENOSYS || err == unix.EPERM {
		return unix.Lgetxattr(procPath(dirfd)+"/"+name, attr, dest)
	}
	return n, err
}

func getxattrat(dirfd int, name, attr string, dest []byte) (int, error) {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	key, err := unix.BytePtrFromString(attr)
	if err != nil {
		return 0, err
	}
	args := xattrArgs{value: unsafe.Pointer(unsafe.SliceData(dest)), size: uint32(len(dest))}
	n, _, errno := unix.Syscall6(unix.SYS_GETXATTRAT, uintptr(dirfd), uintptr(unsafe.Pointer(path)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(key)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
