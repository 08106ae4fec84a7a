package uffd

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Categories is a set of PAGE_IS_* bits of a page.
type Categories uint64

// The categories (Linux 6.7; guard 6.14).
const (
	PageWPAllowed Categories = 1 << 0 // lies in a range registered for asynchronous ModeWP
	PageWritten   Categories = 1 << 1 // not protected: written, or never protected, or absent
	PageFile      Categories = 1 << 2
	PagePresent   Categories = 1 << 3
	PageSwapped   Categories = 1 << 4 // swapped out, or a marker on an absent page
	PageZero      Categories = 1 << 5 // the page of zeros
	PageHuge      Categories = 1 << 6
	PageSoftDirty Categories = 1 << 7
	PageGuard     Categories = 1 << 8
)

// ScanFlags modify PagemapScan.
type ScanFlags uint64

// The flags of PagemapScan.
const (
	ScanWPMatching   ScanFlags = 1 << 0 // protect the pages that are reported, in the same step
	ScanCheckWPAsync ScanFlags = 1 << 1 // fail with EPERM where tracking is not asynchronous
)

// A Scan says what PagemapScan looks for. A page matches when it has all
// categories of Mask, after those in Inverted are turned round, and at least
// one of AnyOf, unless AnyOf is empty.
type Scan struct {
	Start, End uintptr // addresses, End exclusive
	Flags      ScanFlags
	MaxPages   uint64 // stop after that many matching pages; 0: no bound

	Inverted, Mask, AnyOf Categories
	Return                Categories // which categories the regions tell
}

// A Region is struct page_region (Linux 6.7): neighbouring pages that match and
// have the same categories.
type Region struct {
	Start, End uintptr // addresses, End exclusive
	Categories Categories
}

// PagemapScan does PAGEMAP_SCAN on pagemap, an open /proc/PID/pagemap. It fills
// out and returns how many regions it filled and the address where it stopped:
// s.End, or less when out or MaxPages is used up; go on from there. A kernel
// without it gives ENOTTY.
func PagemapScan(pagemap int, s Scan, out []Region) (n int, stopped uintptr, err error) {
	if masked("pagemap_scan") {
		return 0, s.Start, unix.ENOTTY
	}
	arg := scanArg{
		size: uint64(unsafe.Sizeof(scanArg{})), flags: uint64(s.Flags),
		start: uint64(s.Start), end: uint64(s.End),
		vec: unsafe.Pointer(unsafe.SliceData(out)), vecLen: uint64(len(out)), maxPages: s.MaxPages,
		categoryInverted: uint64(s.Inverted), categoryMask: uint64(s.Mask),
		categoryAnyOf: uint64(s.AnyOf), retMask: uint64(s.Return),
	}
	// The vector hangs on arg as a pointer, so that it lives as long as arg and
	// follows it when the stack moves.
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pagemap), iocPagemapScan, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return 0, s.Start, errno
	}
	return int(r), uintptr(arg.walkEnd), nil
}

// OpenPagemap opens the page table of process pid for PagemapScan, 0 being this
// process, and tells in an error that matches ErrUnsupported when the kernel
// can't scan it. The caller closes the descriptor.
func OpenPagemap(pid int) (fd int, err error) {
	name := "/proc/self/pagemap"
	if pid != 0 {
		name = fmt.Sprintf("/proc/%d/pagemap", pid)
	}
	fd, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	if _, _, err := PagemapScan(fd, Scan{Return: PageWritten}, nil); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("%w: PAGEMAP_SCAN (Linux 6.7): %w", ErrUnsupported, err)
	}
	return fd, nil
}
