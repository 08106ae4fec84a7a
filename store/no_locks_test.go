package store

import (
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A reader that gets no lock is refused where a writer would look for one, as when the
// kernel has no memory for it; where nobody can look it needs none.
func TestPinRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	s, err := Create(path, CreateOptions{})
	must(t, err)
	must(t, s.Close())
	locked := func(commands ...uint32) (err error) {
		alone := make(chan struct{})
		go func() {
			defer close(alone)
			runtime.LockOSThread() // The thread ends with this, and so does the filter.
			if err = refuse(commands); err == nil {
				err = openAndClose(path)
			}
		}()
		<-alone
		return err
	}
	if err := locked(unix.F_OFD_SETLK); !errors.Is(err, unix.ENOLCK) || errors.Is(err, errNoLocks) {
		t.Errorf("open beside writers that see no lock: %v, want ENOLCK", err)
	}
	must(t, locked(unix.F_OFD_SETLK, unix.F_OFD_GETLK))
}

func openAndClose(path string) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	return s.Close()
}

// refuse makes these commands of fcntl(2) fail with ENOLCK in the calling thread.
func refuse(commands []uint32) error {
	const nr, command = 0, 24 // in struct seccomp_data
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	skip := func(unless uint32, n uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unless, Jf: n}
	}
	answer := func(a uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: a} }
	program := []unix.SockFilter{load(nr), skip(unix.SYS_FCNTL, uint8(1+2*len(commands))), load(command)}
	for _, c := range commands {
		program = append(program, skip(c, 1), answer(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOLCK)))
	}
	program = append(program, answer(unix.SECCOMP_RET_ALLOW))
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)), 0, 0)
}
