package fs_test

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refuse makes system call nr fail with errno in all threads of this process, which
// has to be root's, from now on.
func refuse(nr uint32, errno unix.Errno) error {
	return refuseIn(unix.SECCOMP_FILTER_FLAG_TSYNC, nr, errno)
}

// refuseIn is refuse for the threads that flags of seccomp(2) say, with 0 for this one alone.
func refuseIn(flags uintptr, nr uint32, errno unix.Errno) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call begins struct seccomp_data
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if err != 0 {
		return os.NewSyscallError("seccomp", err)
	}
	return nil
}
