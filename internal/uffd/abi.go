package uffd

import "unsafe"

// apiVersion is UFFD_API (Linux 4.3).
const apiVersion = 0xaa

// userModeOnly is UFFD_USER_MODE_ONLY, a flag of userfaultfd(2) and of
// USERFAULTFD_IOC_NEW (Linux 5.11).
const userModeOnly = 1

// The ioctl numbers, in the generic encoding of include/uapi/asm-generic/ioctl.h.
const (
	iocNew          = ioctlUffd << 8                                                  // USERFAULTFD_IOC_NEW, Linux 6.1
	iocAPI          = iocRW | unsafe.Sizeof(apiArg{})<<16 | ioctlUffd<<8 | 0x3f       // UFFDIO_API, Linux 4.3
	iocRegister     = iocRW | unsafe.Sizeof(registerArg{})<<16 | ioctlUffd<<8         // UFFDIO_REGISTER, Linux 4.3
	iocUnregister   = iocR | unsafe.Sizeof(rangeArg{})<<16 | ioctlUffd<<8 | 0x01      // UFFDIO_UNREGISTER, Linux 4.3
	iocWake         = iocR | unsafe.Sizeof(rangeArg{})<<16 | ioctlUffd<<8 | 0x02      // UFFDIO_WAKE, Linux 4.3
	iocCopy         = iocRW | unsafe.Sizeof(copyArg{})<<16 | ioctlUffd<<8 | 0x03      // UFFDIO_COPY, Linux 4.3
	iocZero         = iocRW | unsafe.Sizeof(rangeModeArg{})<<16 | ioctlUffd<<8 | 0x04 // UFFDIO_ZEROPAGE, Linux 4.3
	iocMove         = iocRW | unsafe.Sizeof(copyArg{})<<16 | ioctlUffd<<8 | 0x05      // UFFDIO_MOVE, Linux 6.8
	iocWriteProtect = iocRW | unsafe.Sizeof(protectArg{})<<16 | ioctlUffd<<8 | 0x06   // UFFDIO_WRITEPROTECT, Linux 5.7
	iocPoison       = iocRW | unsafe.Sizeof(rangeModeArg{})<<16 | ioctlUffd<<8 | 0x08 // UFFDIO_POISON, Linux 6.6
	iocPagemapScan  = iocRW | unsafe.Sizeof(scanArg{})<<16 | 'f'<<8 | 0x10            // PAGEMAP_SCAN, Linux 6.7

	ioctlUffd = 0xaa
	iocR      = 2 << 30
	iocRW     = 3 << 30
)

// Modes of the ioctls.
const (
	modeZeroDontWake    = 1 << 0 // UFFDIO_ZEROPAGE_MODE_DONTWAKE
	modeProtect         = 1 << 0 // UFFDIO_WRITEPROTECT_MODE_WP
	modeProtectDontWake = 1 << 1 // UFFDIO_WRITEPROTECT_MODE_DONTWAKE
)

// apiArg is struct uffdio_api, the argument of UFFDIO_API (Linux 4.3).
type apiArg struct {
	api, features, ioctls uint64
}

// rangeArg is struct uffdio_range (Linux 4.3).
type rangeArg struct {
	start, len uint64
}

// registerArg is struct uffdio_register (Linux 4.3).
type registerArg struct {
	start, len, mode uint64

	ioctls uint64 // filled by the kernel: what works on the range
}

// copyArg is struct uffdio_copy (Linux 4.3) and struct uffdio_move (Linux 6.8).
type copyArg struct {
	dst, src, len, mode uint64

	done int64 // filled by the kernel: bytes done, or a negated errno
}

// rangeModeArg is struct uffdio_zeropage (Linux 4.3) and struct uffdio_poison
// (Linux 6.6).
type rangeModeArg struct {
	start, len, mode uint64

	done int64 // filled by the kernel: bytes done, or a negated errno
}

// protectArg is struct uffdio_writeprotect (Linux 5.7).
type protectArg struct {
	start, len, mode uint64
}

// scanArg is struct pm_scan_arg (Linux 6.7).
type scanArg struct {
	size, flags, start, end uint64

	walkEnd uint64 // filled by the kernel: where the walk stopped

	vec              unsafe.Pointer // *Region
	vecLen, maxPages uint64

	categoryInverted, categoryMask, categoryAnyOf, retMask uint64
}

// The layouts and numbers below fail the build when they are wrong.
var (
	_ [24]byte = [unsafe.Sizeof(apiArg{})]byte{}
	_ [16]byte = [unsafe.Sizeof(rangeArg{})]byte{}
	_ [32]byte = [unsafe.Sizeof(registerArg{})]byte{}
	_ [40]byte = [unsafe.Sizeof(copyArg{})]byte{}
	_ [32]byte = [unsafe.Offsetof(copyArg{}.done)]byte{}
	_ [32]byte = [unsafe.Sizeof(rangeModeArg{})]byte{}
	_ [24]byte = [unsafe.Sizeof(protectArg{})]byte{}
	_ [96]byte = [unsafe.Sizeof(scanArg{})]byte{}
	_ [32]byte = [unsafe.Sizeof(Event{})]byte{}
	_ [8]byte  = [unsafe.Offsetof(Event{}.Flags)]byte{}
	_ [16]byte = [unsafe.Offsetof(Event{}.Addr)]byte{}
	_ [24]byte = [unsafe.Offsetof(Event{}.Tid)]byte{}
	_ [24]byte = [unsafe.Sizeof(Region{})]byte{}
)

// The numbers as a C compiler computes them from the kernel's headers.
var (
	_ [0]struct{} = [iocNew - 0xaa00]struct{}{}
	_ [0]struct{} = [iocAPI - 0xc018aa3f]struct{}{}
	_ [0]struct{} = [iocRegister - 0xc020aa00]struct{}{}
	_ [0]struct{} = [iocUnregister - 0x8010aa01]struct{}{}
	_ [0]struct{} = [iocWake - 0x8010aa02]struct{}{}
	_ [0]struct{} = [iocCopy - 0xc028aa03]struct{}{}
	_ [0]struct{} = [iocZero - 0xc020aa04]struct{}{}
	_ [0]struct{} = [iocMove - 0xc028aa05]struct{}{}
	_ [0]struct{} = [iocWriteProtect - 0xc018aa06]struct{}{}
	_ [0]struct{} = [iocPoison - 0xc020aa08]struct{}{}
	_ [0]struct{} = [iocPagemapScan - 0xc0606610]struct{}{}
)
