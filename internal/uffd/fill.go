package uffd

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// CopyFlags modify Copy and Fill.
type CopyFlags uint64

// The flags of Copy.
const (
	CopyDontWake CopyFlags = 1 << 0 // leave the waiters of the range asleep
	CopyWP       CopyFlags = 1 << 1 // install the pages write-protected, Linux 5.7
)

// MoveFlags modify Move.
type MoveFlags uint64

// The flags of Move.
const (
	MoveDontWake      MoveFlags = 1 << 0 // leave the waiters of the range asleep
	MoveAllowSrcHoles MoveFlags = 1 << 1 // skip absent source pages instead of failing with ENOENT
)

// Copy installs len bytes from src at dst, whole pages, and wakes the waiters
// of the range. src needs no alignment, must be readable without a fault that
// this descriptor would have to serve, and may not move: memory outside Go's
// heap, or pinned.
//
// It stops at the first page that can't be installed. If pages were installed
// before it, copied counts their bytes and err is EAGAIN; calling again from
// there tells the reason. Otherwise copied is 0 and err is the reason: EEXIST
// (the page is present), ENOENT (not registered, or the mapping changed), ESRCH
// (the process is gone), ENOMEM, EINVAL, or EAGAIN (the mapping is changing).
// Copy overwrites the marker of an absent protected page.
func (u *FD) Copy(dst, src, len uintptr, flags CopyFlags) (copied int, err error) {
	arg := copyArg{dst: uint64(dst), src: uint64(src), len: uint64(len), mode: uint64(flags)}
	if len <= quickCopy {
		err = u.quickIoctl(iocCopy, unsafe.Pointer(&arg))
	} else {
		err = u.ioctl(iocCopy, unsafe.Pointer(&arg))
	}
	return int(max(arg.done, 0)), err
}

// quickCopy is the length, in bytes, up to which a copy does not tell Go's scheduler
// of its system call. Like a first touch of ordinary memory, which does not either, it
// takes some microseconds, or as long as the kernel looks for free pages.
const quickCopy = 64 << 10

// Fill copies like Copy until every page of [dst, dst+len) is present, and
// leaves pages that were present before as they are. It is also the way to
// finish a copy that was cut short. Unless flags has CopyDontWake the waiters
// of the whole range are woken.
func (u *FD) Fill(dst, src, len uintptr, flags CopyFlags) error {
	const page = 4096
	for done := uintptr(0); done < len; {
		n, err := u.Copy(dst+done, src+done, len-done, flags)
		done += uintptr(n)
		switch {
		case err == nil || err == unix.EAGAIN:
		case err == unix.EEXIST:
			// Whoever installed it may have left its waiters asleep.
			if flags&CopyDontWake == 0 {
				if err := u.Wake(dst+done, page); err != nil {
					return err
				}
			}
			done += page
		default:
			return err
		}
	}
	return nil
}

// Zero installs zero pages in [dst, dst+len): references to the one page of
// zeros, which cost no memory until written. It stops like Copy. It can't
// protect what it installs, and a marker of an absent protected page stops it
// with EEXIST.
func (u *FD) Zero(dst, len uintptr, dontWake bool) (done int, err error) {
	arg := rangeModeArg{start: uint64(dst), len: uint64(len)}
	if dontWake {
		arg.mode = modeZeroDontWake
	}
	err = u.ioctl(iocZero, unsafe.Pointer(&arg))
	return int(max(arg.done, 0)), err
}

// Move takes the pages of [src, src+len) out of private anonymous memory of
// this process and puts them at dst, writable (Linux 6.8). It stops like Copy,
// also at markers. EBUSY: a page is pinned or shared with a child.
func (u *FD) Move(dst, src, len uintptr, flags MoveFlags) (moved int, err error) {
	arg := copyArg{dst: uint64(dst), src: uint64(src), len: uint64(len), mode: uint64(flags)}
	err = u.ioctl(iocMove, unsafe.Pointer(&arg))
	return int(max(arg.done, 0)), err
}

// Poison makes every touch of [addr, addr+len), whose pages must be absent, a
// SIGBUS in the process that touches (Linux 6.6). It stops like Copy.
func (u *FD) Poison(addr, len uintptr) (done int, err error) {
	arg := rangeModeArg{start: uint64(addr), len: uint64(len)}
	err = u.ioctl(iocPoison, unsafe.Pointer(&arg))
	return int(max(arg.done, 0)), err
}

// WriteProtect protects the present pages of [addr, addr+len) against writing,
// or lifts that and wakes the writers that wait. Absent pages are skipped,
// unless FeatureWPUnpopulated is on: then protecting leaves a marker on them.
// dontWake has a meaning only when lifting; together with protect it is
// ignored, because the kernel refuses it.
func (u *FD) WriteProtect(addr, len uintptr, protect, dontWake bool) error {
	arg := protectArg{start: uint64(addr), len: uint64(len)}
	switch {
	case protect:
		arg.mode = modeProtect
	case dontWake:
		arg.mode = modeProtectDontWake
	}
	return u.ioctl(iocWriteProtect, unsafe.Pointer(&arg))
}

// Wake wakes all threads that wait for a page of [addr, addr+len). Those whose
// page is still absent or protected fault again, which delivers their event
// again.
func (u *FD) Wake(addr, len uintptr) error {
	arg := rangeArg{start: uint64(addr), len: uint64(len)}
	return u.ioctl(iocWake, unsafe.Pointer(&arg))
}
