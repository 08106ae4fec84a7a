package main

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// onThread calls do on a thread of its own, which ends with it: what do changes of the
// thread is nobody else's.
func onThread(t *testing.T, do func() error) {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- do()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// asNobody makes this thread's access to files that of an ordinary user.
func asNobody() error {
	_, err := unix.SetfsuidRetUid(65534)
	return err
}

// reachable lets ordinary users through to the folder dir, which tests have for themselves.
func reachable(t *testing.T, dir string) {
	t.Helper()
	for at := filepath.Dir(dir); at != "/" && at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// refuse makes system call nr fail with errno in this thread, which has to be root's.
func refuse(nr uint32, errno unix.Errno) error { return refuseBut(-1, nr, errno) }

// refuseBut is refuse for calls whose first argument is another than the descriptor fd.
func refuseBut(fd int, nr uint32, errno unix.Errno) error {
	return refuseIf(nr, 0, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(fd), Jt: 1}, errno)
}

// refuseTmpfile is refuse for open(2) with O_TMPFILE, as on a file system without it.
func refuseTmpfile(errno unix.Errno) error {
	const tmpfile = unix.O_TMPFILE &^ unix.O_DIRECTORY
	return refuseIf(unix.SYS_OPENAT, 2, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: tmpfile, Jf: 1}, errno)
}

// refuseIf is refuse for calls whose argument arg, counted from 0, passes test, which jumps
// over one instruction for the others.
func refuseIf(nr, arg uint32, test unix.SockFilter, errno unix.Errno) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call begins struct seccomp_data
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16 + 8*arg}, // the lower half, little-endian
		test,
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if err != 0 {
		return err
	}
	return nil
}
