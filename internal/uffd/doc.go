// Package uffd speaks userfaultfd(2) and PAGEMAP_SCAN: the kernel's interface
// in pure Go, and nothing else.
//
// Numbers and layouts are those of include/uapi/linux/userfaultfd.h and
// include/uapi/linux/fs.h of Linux 6.18, with the generic ioctl encoding
// (amd64, arm64, riscv64, loong64). Each names the kernel it appeared in.
//
// The package knows no policy. A method does one system call and returns the
// kernel's errno as it is, so that a caller can compare it: err == unix.EEXIST.
// Addresses are plain integers because they name memory that does not belong to
// Go's heap; the caller keeps that memory mapped while a method works on it.
//
// All methods of FD may be called from many goroutines at once, Close included.
// Copy, Zero, Move, WriteProtect, Wake, Poison, Read and PagemapScan allocate
// nothing.
//
// For tests, LAZYFS_MASK_UFFD in the environment hides parts of the kernel from
// this package, in child processes too; see Mask.
package uffd
