package uffdmap

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probeTouches touches bytes of m here and there until end, and returns how long that
// took. Other than the touches of goroutines these have no waits for a processor, or
// for the garbage collector, in them: the thread is not preempted by Go in a probe.
func probeTouches(m *Mapping, end time.Time) (slowest slowestTouches, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sink, err := unix.MemfdCreate("sink", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(sink)
	r := rand.New(rand.NewPCG(uint64(end.UnixNano()), 98))
	for time.Now().Before(end) {
		off := r.Int64N(m.Size())
		d, errno := probe(sink, &m.Bytes()[off])
		if errno != 0 {
			return nil, fmt.Errorf("probe of the byte at %#x: %w", off, errno)
		}
		slowest.add(m.table.head.takeovers.Load(), d)
		time.Sleep(100 * time.Microsecond)
	}
	return slowest, nil
}

// probe has the kernel copy b to the file sink, and returns how long that took.
func probe(sink int, b *byte) (time.Duration, unix.Errno) {
	var begin, end unix.Timespec
	unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&begin)), 0)
	_, _, errno := unix.RawSyscall6(unix.SYS_PWRITE64, uintptr(sink), uintptr(unsafe.Pointer(b)), 1, 0, 0, 0)
	unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&end)), 0)
	return time.Duration(end.Nano() - begin.Nano()), errno
}
