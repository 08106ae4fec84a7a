package uffd

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Each way to a descriptor works when the others are closed, and the last one alone says
// that system calls are not served. It is taken when there is no other. No descriptor
// blocks or goes to the programs that this one starts.
func TestWays(t *testing.T) {
	for _, c := range []struct {
		mask         string
		userModeOnly bool
	}{
		{"syscall,usermode", false},
		{"dev,usermode", false},
		{"dev,syscall", true},
		{"syscall", false},
		{"dev", false},
	} {
		t.Setenv(MaskEnv, c.mask)
		u := open(t, FeatureSIGBUS)
		if u.UserModeOnly() != c.userModeOnly {
			t.Errorf("mask %q: user mode only is %v, want %v", c.mask, u.UserModeOnly(), c.userModeOnly)
		}
		if flags, err := unix.FcntlInt(uintptr(u.Fd()), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("mask %q: descriptor flags %#x, %v, want close-on-exec", c.mask, flags, err)
		}
		if n, err := u.Read(make([]Event, 1)); n != 0 || err != unix.EAGAIN {
			t.Errorf("mask %q: read without an event: %d, %v, want 0, EAGAIN", c.mask, n, err)
		}
		m := anon(t, 1)
		register(t, u, m, ModeMissing)
		if _, err := u.Copy(m.addr, filled(t, 7), page, 0); err != nil || m.b[0] != 7 {
			t.Errorf("mask %q: copy gives %v, byte %d, want 7", c.mask, err, m.b[0])
		}
	}
}

// When nothing works the error names every way and its errno, and can be told
// apart as a matter of privilege.
func TestNoWay(t *testing.T) {
	t.Setenv(MaskEnv, "dev,syscall,usermode")
	_, err := Open(0, 0)
	if !errors.Is(err, ErrPrivilege) || !errors.Is(err, unix.EPERM) || !errors.Is(err, unix.ENOENT) {
		t.Errorf("open: %v, want ErrPrivilege, EPERM and ENOENT", err)
	}
	for _, way := range ways {
		if !strings.Contains(err.Error(), way.name+": ") {
			t.Errorf("open: %v, which does not name %s", err, way.name)
		}
	}
}

// What is missing is the privilege when any way is forbidden, the kernel when none is
// known, and neither when one may work at another time.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		want error
		errs []error
	}{
		{ErrUnsupported, []error{unix.ENOENT, unix.ENOSYS, unix.ENOSYS}},
		{ErrPrivilege, []error{unix.EACCES, unix.ENOSYS, unix.ENOSYS}},
		{ErrPrivilege, []error{unix.ENOENT, unix.EPERM, unix.EPERM}},
		{errShort, []error{unix.ENOENT, unix.EPERM, unix.ENFILE}},
		{errShort, []error{unix.ENOMEM, unix.EPERM, unix.EPERM}},
		{errShort, []error{unix.EACCES, unix.EMFILE, unix.EPERM}},
	} {
		var e OpenError
		for _, err := range c.errs {
			e.Tries = append(e.Tries, Try{Err: err})
		}
		for _, kind := range []error{ErrUnsupported, ErrPrivilege, errShort} {
			if got := errors.Is(&e, kind); got != (kind == c.want) {
				t.Errorf("ways that fail with %v match %v: %t, want %t", c.errs, kind, got, kind == c.want)
			}
		}
	}
}

// A process that has no descriptor left is told so, whatever else is in the way, and not
// that it lacks the privilege or the kernel.
func TestNoDescriptorLeft(t *testing.T) {
	for _, mask := range []string{"", "syscall", "dev,syscall"} {
		t.Setenv(MaskEnv, mask)
		var before unix.Rlimit
		must(t, "get limit", unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
		must(t, "set limit", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: before.Max}))
		_, err := Open(0, 0)
		must(t, "restore limit", unix.Setrlimit(unix.RLIMIT_NOFILE, &before))
		if !errors.Is(err, unix.EMFILE) || errors.Is(err, ErrPrivilege) || errors.Is(err, ErrUnsupported) {
			t.Errorf("mask %q: open: %v, want EMFILE and neither ErrPrivilege nor ErrUnsupported", mask, err)
		}
	}
}

// A feature that the kernel lacks is an error when wanted, and left out when
// optional. An unwanted feature is not switched on.
func TestFeatures(t *testing.T) {
	t.Setenv(MaskEnv, "poison,wp_async")
	_, err := Open(FeaturePoison|FeatureSIGBUS, 0)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "poison (Linux 6.6)") || strings.Contains(err.Error(), "sigbus") {
		t.Errorf("open: %v, want ErrUnsupported for poison alone", err)
	}
	u, err := Open(FeatureSIGBUS, FeaturePoison|FeatureMove)
	if err != nil || u.Features() != FeatureSIGBUS|FeatureMove {
		t.Fatalf("open: features %v, %v, want sigbus|move", u.Features(), err)
	}
	u.Close()
}

// A mask of PAGEMAP_SCAN looks like a kernel without it.
func TestMaskedPagemapScan(t *testing.T) {
	t.Setenv(MaskEnv, "pagemap_scan")
	if _, err := OpenPagemap(0); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "6.7") {
		t.Errorf("open pagemap: %v, want ErrUnsupported naming Linux 6.7", err)
	}
}

// Failed and successful opens leave no descriptor behind.
func TestNoLeak(t *testing.T) {
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	before := count()
	for range 20 {
		u, err := Open(0, allFeatures)
		must(t, "open", err)
		must(t, "close", u.Close())
		t.Setenv(MaskEnv, "poison")
		Open(FeaturePoison, 0)
		t.Setenv(MaskEnv, "pagemap_scan")
		OpenPagemap(0)
		t.Setenv(MaskEnv, "")
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors open, want %d", after, before)
	}
}

// Close gives the descriptor back: at once, or when the call has ended that is at work
// on it.
func TestCloseGivesBack(t *testing.T) {
	lives := func(u *FD) bool {
		to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", u.Fd()))
		return err == nil && to == "anon_inode:[userfaultfd]"
	}
	m, src := anon(t, 1), filled(t, 1)
	idle := open(t, 0)
	register(t, idle, m, ModeMissing)
	idle.Read(make([]Event, 1))
	idle.Wake(m.addr, page)
	idle.Copy(m.addr, src, page, 0)
	idle.Copy(m.addr, src, page, 0) // EEXIST
	must(t, "close", idle.Close())
	if lives(idle) {
		t.Error("a descriptor that nobody uses is open after its Close")
	}

	// The copy waits for its first page, which another descriptor brings.
	const pages = quickCopy/page + 1
	busy, other, m, slow := open(t, 0), open(t, 0), anon(t, pages), anon(t, pages)
	register(t, busy, m, ModeMissing)
	must(t, "register", other.Register(slow.addr, page, ModeMissing))
	copied := make(chan error)
	go func() {
		_, err := busy.Copy(m.addr, slow.addr, pages*page, 0)
		copied <- err
	}()
	readEvents(t, other, 1)
	must(t, "close", busy.Close())
	if !lives(busy) {
		t.Error("Close took the descriptor from a call that was at work on it")
	}
	must(t, "fill", other.Fill(slow.addr, src, page, 0))
	if err := <-copied; err != nil || m.b[0] != 1 {
		t.Errorf("copy beside a Close: %v, byte %d, want 1", err, m.b[0])
	}
	if lives(busy) {
		t.Error("the descriptor is open although the last call has ended")
	}
}

// However a Close falls among other calls, each of them either works on the
// userfaultfd or gets os.ErrClosed. None meets another file that was given the
// same number, which would answer ENOTTY or EBADF.
func TestCloseAmongCalls(t *testing.T) {
	m := anon(t, 1)
	for range 200 {
		u, err := Open(0, 0)
		must(t, "open", err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					switch err := u.Wake(m.addr, page); err {
					case nil:
					case os.ErrClosed:
						return
					default:
						t.Errorf("wake: %v, want nil or closed", err)
						return
					}
				}
			})
		}
		wg.Go(func() {
			must(t, "close", u.Close())
			for range 3 {
				fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				must(t, "open /dev/null", err)
				defer unix.Close(fd)
			}
		})
		wg.Wait()
		if err := u.Close(); err != os.ErrClosed {
			t.Fatalf("second close: %v, want closed", err)
		}
	}
}
