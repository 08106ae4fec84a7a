package uffdmap

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// A View mapping does all it does in every situation that its kernel may put it
// in: with each way to a userfaultfd, with and without tracking of writes.
func TestFallbacks(t *testing.T) {
	for mask, tracked := range map[string]bool{
		"dev":                            true,
		"dev,syscall":                    true,
		"wp_async":                       false,
		"pagemap_scan":                   false,
		"dev,syscall,poison,move":        true,
		"dev,syscall,wp_async,move":      false,
		"wp_async,wp_unpopulated,poison": false,
	} {
		t.Run(mask, func(t *testing.T) {
			t.Setenv(uffd.MaskEnv, mask)
			useView(t, tracked)
		})
	}
}

// useView reads, edits, evicts, syncs and reopens.
func useView(t *testing.T, tracked bool) {
	const frame, frames = 16 << 10, 32
	want := bytes.Repeat([]byte{1}, frames*frame)
	clear(want[4*frame : 8*frame])
	path := newStore(t, want, frame)
	v := openView(t, path, Options{Writable: true, MemoryLimit: 8 * frame})
	if v.tracked() != tracked {
		t.Fatalf("the kernel tracks writes: %v, want %v", v.tracked(), tracked)
	}
	s, err := v.Edit(5*frame, 2*store.PageSize)
	must(t, "edit", err)
	s.Bytes()[0], want[5*frame] = 9, 9
	stale := s.Bytes()
	s.Release()
	first := int64(5 * frame / store.PageSize)
	wantDirty := []int64{first}
	if !tracked {
		wantDirty = append(wantDirty, first+1)
	}
	if got := dirtyPages(v); !slices.Equal(got, wantDirty) {
		t.Errorf("dirty pages %v, want %v", got, wantDirty)
	}
	got := make([]byte, len(want))
	_, err = v.ReadAt(got, 0)
	must(t, "read", err)
	same(t, "read", got, want)
	if b, trapped := touchByte(stale, 0); trapped != uintptr(unsafe.Pointer(&stale[0])) {
		t.Errorf("touch of an evicted byte gives %d, trap at %#x", b, trapped)
	}
	must(t, "close", v.Close())
	same(t, "stored", stored(t, path), want)
}

// Where the kernel refuses, the error says so, names every way that was tried,
// and can be told apart.
func TestRefusedByKernel(t *testing.T) {
	path := newStore(t, make([]byte, 4096), 4096)
	t.Setenv(uffd.MaskEnv, "dev,syscall,usermode")
	_, err := Open(path, Options{})
	if !errors.Is(err, ErrPrivilege) || !strings.Contains(err.Error(), "/dev/userfaultfd") || !strings.Contains(err.Error(), "USER_MODE_ONLY") {
		t.Errorf("open: %v, want ErrPrivilege and all ways", err)
	}
	t.Setenv(uffd.MaskEnv, "sigbus")
	_, err = Open(path, Options{})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "sigbus (Linux 4.14)") {
		t.Errorf("open: %v, want ErrUnsupported naming sigbus", err)
	}
	// Neither left the store's lock behind.
	t.Setenv(uffd.MaskEnv, "")
	must(t, "close", openView(t, path, Options{Writable: true}).Close())
}

// An ordinary user can do the same, by USER_MODE_ONLY.
func TestUnprivileged(t *testing.T) {
	const role = "LAZYFS_TEST_UNPRIVILEGED"
	if os.Getenv(role) != "" {
		u, err := uffd.Open(0, 0)
		must(t, "open userfaultfd", err)
		defer u.Close()
		if os.Geteuid() == 0 || !u.UserModeOnly() {
			t.Fatalf("user %d, user mode only is %v, want an ordinary user and user mode only", os.Geteuid(), u.UserModeOnly())
		}
		useView(t, true)
		return
	}
	if os.Geteuid() != 0 {
		t.Setenv(role, "1")
		useView(t, true)
		return
	}
	dir, err := os.MkdirTemp("", "lazyfs-unprivileged-")
	must(t, "make folder", err)
	defer os.RemoveAll(dir)
	must(t, "open folder", os.Chmod(dir, 0o777))
	program := filepath.Join(dir, "test")
	copyProgram(t, program)
	cmd := exec.Command(program, "-test.run=^TestUnprivileged$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), role+"=1", "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestUnprivileged")) {
		t.Errorf("as user 65534: %v\n%s", err, out)
	}
}

// copyProgram copies the test binary to where an ordinary user may start it.
func copyProgram(t *testing.T, to string) {
	t.Helper()
	src, err := os.Open("/proc/self/exe")
	must(t, "open test binary", err)
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, "create", err)
	_, err = io.Copy(dst, src)
	must(t, "copy", err)
	must(t, "close", dst.Close())
}
