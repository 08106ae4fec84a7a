package uffd

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const page = 4096

// mem is pages of memory outside Go's heap.
type mem struct {
	b    []byte
	addr uintptr
}

// at is the address of page n.
func (m mem) at(n int) uintptr { return m.addr + uintptr(n)*page }

// anon maps n pages of private anonymous memory.
func anon(t testing.TB, n int) mem {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	return mapped(t, b, err)
}

// shared maps n pages of a memfd.
func shared(t testing.TB, n int) mem {
	t.Helper()
	fd, err := unix.MemfdCreate("uffd-test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(n*page)); err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(fd, 0, n*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return mapped(t, b, err)
}

func mapped(t testing.TB, b []byte, err error) mem {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil {
		t.Fatal(err)
	}
	return mem{b, uintptr(unsafe.Pointer(&b[0]))}
}

// filled is one page of byte v, to copy from.
func filled(t testing.TB, v byte) uintptr {
	t.Helper()
	m := anon(t, 1)
	for i := range m.b {
		m.b[i] = v
	}
	return m.addr
}

// open opens a userfaultfd that has the features want.
func open(t testing.TB, want Features) *FD {
	t.Helper()
	u, err := Open(want, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// register registers all of m.
func register(t testing.TB, u *FD, m mem, mode Mode) {
	t.Helper()
	if err := u.Register(m.addr, uintptr(len(m.b)), mode); err != nil {
		t.Fatal(err)
	}
}

// must fails the test on an error.
func must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// touch reads b[i] and gives the address of the fault if that traps, else 0.
func touch(b []byte, i int) (v byte, trapped uintptr) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			trapped = r.(interface{ Addr() uintptr }).Addr()
		}
	}()
	return b[i], 0
}

// populate makes the kernel touch page n from within a system call, so that
// the fault holds no P of the Go runtime while it waits. The result arrives on
// the channel.
func populate(m mem, n int, write bool) <-chan error {
	done := make(chan error, 1)
	go func() {
		advice := unix.MADV_POPULATE_READ
		if write {
			advice = unix.MADV_POPULATE_WRITE
		}
		done <- unix.Madvise(m.b[n*page:(n+1)*page], advice)
	}()
	return done
}

// readEvents waits for n events.
func readEvents(t testing.TB, u *FD, n int) []Event {
	t.Helper()
	var all []Event
	for len(all) < n {
		p := []unix.PollFd{{Fd: int32(u.Fd()), Events: unix.POLLIN}}
		if k, err := unix.Poll(p, 10_000); k == 0 || err != nil && err != unix.EINTR {
			t.Fatalf("%d of %d events after 10 s: %v", len(all), n, err)
		}
		buf := make([]Event, 16)
		k, err := u.Read(buf)
		if err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		all = append(all, buf[:k]...)
	}
	return all
}

// waiters is the number of threads that wait for u.
func waiters(t testing.TB, u *FD) (n int) {
	t.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", u.Fd()))
	must(t, "read fdinfo", err)
	_, total, _ := strings.Cut(string(info), "\ntotal:")
	_, err = fmt.Sscan(total, &n)
	must(t, "find the waiters in "+string(info), err)
	return n
}

// pagemap opens the page table of this process.
func pagemap(t testing.TB) int {
	t.Helper()
	fd, err := OpenPagemap(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestMain(m *testing.M) {
	os.Unsetenv(MaskEnv) // each test sets its own
	os.Exit(m.Run())
}
