package uffdmap

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// aloneEnv makes pagers unable to start a standby.
const aloneEnv = "LAZYFS_TEST_ALONE"

// denyExec lets this process start no program.
func denyExec() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_EXECVE, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}

// A pager that can start no standby serves all the same, and when it dies while no
// page is waited for the program starts another.
func TestMapPagerAlone(t *testing.T) {
	t.Setenv(aloneEnv, "1")
	data := content(1<<20, 74)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	for range 3 {
		data[100]++
		m.Bytes()[100] = data[100]
		pager, err := living(rolePager)
		must(t, "find the pager", err)
		must(t, "kill", unix.Kill(pager, unix.SIGKILL))
		eventually(t, "its end", func() bool { return helper(os.Getpid(), rolePager) != pager })
		must(t, "prefetch", m.Prefetch(Range{0, m.Size()}))
		same(t, "mapping", m.Bytes(), data)
	}
	must(t, "close", m.Close())
	same(t, "store", unpack(t, path), data)
}

func init() { bodies["alone"] = aloneBody }

// aloneBody has a pager that tries in vain to start a standby, several times.
func aloneBody(args []string) error {
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	time.Sleep(time.Second) // Nothing shows that it tries.
	err = await("all to be reaped that could not begin", func() bool { return len(helpers(os.Getpid())) == 1 })
	return errors.Join(err, m.Close())
}

// That no standby can be started is said once, and leaves no dead process behind.
func TestMapAloneSaysSo(t *testing.T) {
	c := command("alone", pack(t, content(1000, 76), store.CreateOptions{}))
	c.Env = append(c.Env, aloneEnv+"=1")
	out := run(t, c, tooLong)
	if n := strings.Count(out, "no standby"); n != 1 {
		t.Errorf("it is said %d times that there is no standby, want once:\n%s", n, out)
	}
}
