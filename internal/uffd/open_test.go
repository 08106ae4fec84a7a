package uffd

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Each way to a descriptor works when the others are closed, and the last one alone says
// that system calls are not served. It is taken when there is no other.
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
		t.Setenv(MaskEnv, "")
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors open, want %d", after, before)
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
