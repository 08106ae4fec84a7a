package uffd

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An EventKind says what an Event reports.
type EventKind uint8

// EventFault is UFFD_EVENT_PAGEFAULT, the only kind a descriptor delivers that
// was opened without the event features.
const EventFault EventKind = 0x12

// FaultFlags tell a fault's cause. A touch of an absent page by a read has none.
type FaultFlags uint64

// The flags of a fault.
const (
	FaultWrite FaultFlags = 1 << 0 // the access was a write
	FaultWP    FaultFlags = 1 << 1 // the page is present and protected
	FaultMinor FaultFlags = 1 << 2 // the page is in the file and not in the page table
)

// An Event is struct uffd_msg (Linux 4.3) as far as it concerns faults.
type Event struct {
	Kind EventKind
	_    [7]byte

	Flags FaultFlags
	Addr  uintptr // of the page; exact with FeatureExactAddress
	Tid   uint32  // thread that faulted, in the reader's pid namespace; needs FeatureThreadID
	_     uint32
}

// Read takes as many waiting events as buf holds, in one system call, and never
// waits: with none it returns 0 and EAGAIN. Poll for POLLIN may have promised
// one nevertheless, as a signal can withdraw the fault of the thread it hits. The
// same fault may be reported more than once.
func (u *FD) Read(buf []Event) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	if !u.acquire() {
		return 0, os.ErrClosed
	}
	n, _, errno := unix.Syscall(unix.SYS_READ, uintptr(u.fd),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf))*unsafe.Sizeof(Event{}))
	u.release()
	if errno != 0 {
		return 0, errno
	}
	return int(n / unsafe.Sizeof(Event{})), nil
}
