package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/fs"
)

// Whatever was written and closed is in a sound store once the daemon has ended by
// umount or SIGTERM.
func TestEndKeepsAll(t *testing.T) {
	for _, end := range []struct {
		name string
		do   func(*daemon)
	}{{"umount", (*daemon).umount}, {"SIGTERM", (*daemon).terminate}} {
		t.Run(end.name, func(t *testing.T) {
			back := t.TempDir()
			d := mountRW(t, back)
			for i := range 50 {
				write(t, d.path(fmt.Sprint(i)), text(uint64(i), i*3000))
			}
			end.do(d)
			for i := range 50 {
				got := unpack(t, filepath.Join(back, fmt.Sprintf("%d.lazy", i)))
				if !bytes.Equal(got, text(uint64(i), i*3000)) {
					t.Errorf("file %d is not as it was written", i)
				}
			}
			if list := names(t, back); len(list) != 50 {
				t.Errorf("%d files left behind, want 50", len(list))
			}
		})
	}
}

// SIGTERM ends the daemon within seconds although files are open, and what was
// written to them is kept.
func TestTerminateBusy(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	f, err := os.Create(d.path("open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(text(1, 100_000)); err != nil {
		t.Fatal(err)
	}
	d.terminate()
	if got := unpack(t, filepath.Join(back, "open.lazy")); !bytes.Equal(got, text(1, 100_000)) {
		t.Error("what was written to the open file is lost")
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a write after the end is acknowledged")
	}
}

// SIGTERM ends the daemon within seconds although somebody goes on to write. What he
// writes is refused then.
func TestTerminateWriting(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	begun, refused := make(chan struct{}), make(chan error)
	go func() {
		mib := make([]byte, 1<<20)
		for i := 0; ; i++ {
			if _, err := f.Write(mib); err != nil {
				refused <- err
				return
			}
			if i == 200 {
				close(begun)
			}
		}
	}()
	<-begun
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(15 * time.Second):
		t.Error("the daemon does not end")
		// It would not end by SIGKILL either, since the kernel waits for it.
		os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", unix.Minor(st.Dev)), []byte("1"), 0)
	}
	<-refused
	checkAll(t, back)
}

// A mount that can't be taken away, as it is not where it was made, ends all the
// same: what was written is kept, and the daemon says what stayed.
func TestTerminateMoved(t *testing.T) {
	back, base := t.TempDir(), t.TempDir()
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(base, unix.MNT_DETACH) })
	// Out of a shared mount nothing can be moved.
	if err := unix.Mount("", base, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	here, there := filepath.Join(base, "here"), filepath.Join(base, "there")
	for _, dir := range []string{here, there} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d := start(t, mountSpec{Source: back, Dir: here, Writable: true})
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(text(1, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(here, there, "", unix.MS_MOVE, ""); err != nil {
		t.Fatal(err)
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	if err := <-d.done; err == nil {
		t.Error("the daemon ends as if all were well")
	}
	if got := unpack(t, filepath.Join(back, "f.lazy")); !bytes.Equal(got, text(1, 100_000)) {
		t.Error("what was written is lost")
	}
	if !strings.Contains(d.log.String(), "unmount "+here) {
		t.Errorf("the daemon does not say what stayed: %q", d.log)
	}
}

// A mount that is taken away lazily works on for who has a file of it open. When
// that is closed the daemon ends, and everything is kept.
func TestLazyUnmount(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Unmount(d.dir, 0); err != unix.EBUSY {
		t.Errorf("umount of a mount in use: %v, want %v", err, unix.EBUSY)
	}
	if err := unix.Unmount(d.dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if got := names(t, d.dir); len(got) != 0 {
		t.Errorf("the mount is there still, with %q", got)
	}
	if _, err := f.Write(text(1, 100_000)); err != nil {
		t.Error(err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	got := make([]byte, 100_000)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, text(1, 100_000)) {
		t.Errorf("read differs at %#x, %v", firstDiff(got, text(1, 100_000)), err)
	}
	if _, err := f.WriteAt([]byte("last"), 5000); err != nil {
		t.Error(err)
	}
	f.Close()
	d.wait()
	want := text(1, 100_000)
	copy(want[5000:], "last")
	if got := unpack(t, filepath.Join(back, "f.lazy")); !bytes.Equal(got, want) {
		t.Error("what was written is lost")
	}
}

// What somebody else has mounted where a mount was, which a file that is open keeps alive,
// is not taken away with it.
func TestTerminateLeavesOthers(t *testing.T) {
	d := mountRW(t, t.TempDir())
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Unmount(d.dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	write(t, d.path("other"), []byte("other"))
	d.cmd.Process.Signal(syscall.SIGTERM)
	<-d.done
	same(t, d.path("other"), []byte("other"))
}

// Whoever uses a mount only for a moment, as df(1) does, is no reason to detach it.
func TestTerminatePassing(t *testing.T) {
	for range 10 {
		d := mountRO(t, t.TempDir())
		stop := make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			var st unix.Statfs_t
			for {
				select {
				case <-stop:
					return
				default:
					begin := time.Now()
					unix.Statfs(d.dir, &st)
					time.Sleep(time.Since(begin)) // However slow the machine, it is used half of the time.
				}
			}
		})
		d.terminate()
		close(stop)
		group.Wait()
		if d.log.String() != "" {
			t.Errorf("the daemon says %q", d.log)
		}
	}
}

// A process that mounts and unmounts keeps no descriptor of a mount that is gone.
func TestUnmountClosesDescriptors(t *testing.T) {
	open := func() int { return len(names(t, "/proc/self/fd")) }
	before := 0
	for i := range 4 {
		back, dir := t.TempDir(), t.TempDir()
		if err := os.MkdirAll(filepath.Join(back, "a/b/c"), 0o755); err != nil {
			t.Fatal(err)
		}
		s, err := fs.Mount(back, dir, fs.Options{Writable: true})
		if err != nil {
			t.Fatal(err)
		}
		// Somebody has a file open without a name, and a folder, to the end.
		out, err := exec.Command("sh", "-c", "cd $0/a/b && cd c && echo new >new && exec 3<>new && rm new && cp /proc/self/fd/3 other", dir).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if err := s.Unmount(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			before = open() // With what is opened once.
			continue
		}
		until(t, "no more is open than after the first mount", func() bool { return open() <= before })
	}
}

// A mount that fails after the kernel has made it leaves nothing behind, no mount and no
// descriptor.
func TestMountFailsLate(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	device := func() uint64 {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			t.Fatal(err)
		}
		return st.Dev
	}
	open := func() (n int) {
		for _, name := range names(t, "/proc/self/fd") {
			if to, _ := os.Readlink("/proc/self/fd/" + name); to == "/dev/fuse" {
				n++
			}
		}
		return n
	}
	before, opened := device(), open()
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // It ends with the goroutine.
		if err := refuseIn(0, unix.SYS_STATX, unix.EPERM); err != nil {
			failed <- err
			return
		}
		_, err := fs.Mount(t.TempDir(), dir, fs.Options{})
		failed <- err
	}()
	if err := <-failed; !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "statx") {
		t.Errorf("mount where statx is refused: %v, want %v", err, unix.EPERM)
	}
	if got := device(); got != before {
		t.Error("the mount is there")
	}
	if got := open(); got > opened {
		t.Errorf("%d descriptors of mounts are open, want %d", got, opened)
	}
}

// To unmount what is gone does nothing, also where another mount is in its place, which may have
// its device number.
func TestUnmountAgain(t *testing.T) {
	dir := t.TempDir()
	var all []*fs.Server
	for range 2 {
		s, err := fs.Mount(t.TempDir(), dir, fs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Unmount()
		all = append(all, s)
		if err := all[0].Unmount(); err != nil {
			t.Error(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mounts), " "+dir+" ") {
		t.Error("the mount that came after it is gone")
	}
}
