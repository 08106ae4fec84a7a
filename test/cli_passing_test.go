package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whoever uses a mount for a moment only, as df(1) does, does not keep it from being
// unmounted, however often that happens.
func TestUmountPassing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/x", []byte("x"))
	for range 10 {
		mountStore(t, dir, "stores", "mnt")
		stop := make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			var st unix.Statfs_t
			for {
				select {
				case <-stop:
					return
				default:
					unix.Statfs(dir+"/mnt", &st)
					time.Sleep(20 * time.Microsecond)
				}
			}
		})
		must(t, dir, "umount", "mnt")
		close(stop)
		group.Wait()
	}
}

// stop stops all threads of a process. Only one of them has to see the signal at once.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all threads stand", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, path := range threads {
			b, readErr := os.ReadFile(path)
			err = errors.Join(err, readErr)
			if !bytes.Contains(b, []byte("\nState:\tT")) {
				return false
			}
		}
		return err == nil && len(threads) > 0
	})
}

// umount(8) does not wait for the daemon, which may have to write for a while. A mount
// made right afterwards waits for that: it shows what was written, and its files can
// be written to at once.
func TestMountAfterUmount8(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	mountStore(t, dir, "--rw", "stores", "mnt")
	write(t, dir+"/mnt/x", []byte("x"))
	old := daemonOf(t, dir+"/mnt")
	defer unix.Kill(old, unix.SIGCONT)
	stop(t, old)
	if err := unix.Unmount(dir+"/mnt", 0); err != nil {
		t.Fatal(err)
	}
	// Another mount may get its device number.
	if err := os.Mkdir(dir+"/tmpfs", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir+"/tmpfs", "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir+"/tmpfs", 0)
	// Another folder is none of its business.
	write(t, dir+"/others/README", nil)
	mountStore(t, dir, "--rw", "others", "mnt2")
	must(t, dir, "umount", "mnt2")

	// By another name it is the same folder.
	if err := os.Symlink("stores", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(binary, "mount", "--rw", "--quiet", "link", "mnt")
	c.Dir = dir
	ready := make(chan error, 1)
	go func() {
		out, err := c.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		ready <- err
	}()
	select {
	case err := <-ready:
		t.Errorf("while the old daemon holds its stores, mount ends: %v", err)
		ready <- err
	case <-time.After(200 * time.Millisecond): // as good a chance to be too early as any
	}
	if err := unix.Kill(old, unix.SIGCONT); err != nil {
		t.Error(err)
	}
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir+"/mnt/x"); string(got) != "x" {
		t.Errorf("the new mount shows %q", got)
	}
	write(t, dir+"/mnt/x", []byte("new"))
	must(t, dir, "umount", "mnt")
}

// umount waits for the daemon. When that takes long it says so in one line, which
// names the places where the mount is besides: here, and in another mount namespace.
func TestUmountWaits(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	mountStore(t, dir, "stores", "mnt")
	daemon := daemonOf(t, dir+"/mnt")
	if err := os.Mkdir(dir+"/other", 0o755); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("unshare", "--mount", "cat")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer in.Close()
	eventually(t, "cat runs", func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", other.Process.Pid))
		return err == nil && string(name) == "cat\n"
	})
	if err := unix.Mount(dir+"/mnt", dir+"/other", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir+"/other", unix.MNT_DETACH) }) // fails when it is unmounted, as it should be

	want := fmt.Sprintf("lazyfs umount: %s/mnt: unmounted, waiting for its daemon (pid %d), since it is mounted elsewhere, too: "+
		"%s/other, %s/mnt in the mount namespace of cat (pid %d)\n", dir, daemon, dir, dir, other.Process.Pid)
	umountWaits(t, dir, want, func() {
		if err := unix.Unmount(dir+"/other", 0); err != nil {
			t.Error(err)
		}
		in.Close()
	})

	mountStore(t, dir, "--rw", "stores", "mnt")
	daemon = daemonOf(t, dir+"/mnt")
	stop(t, daemon)
	want = fmt.Sprintf("lazyfs umount: %s/mnt: unmounted, waiting for its daemon (pid %d) to write everything\n", dir, daemon)
	umountWaits(t, dir, want, func() { unix.Kill(daemon, unix.SIGCONT) })
}

// umountWaits unmounts mnt, which has to say what it waits for before goOn ends that.
func umountWaits(t *testing.T, dir, want string, goOn func()) {
	t.Helper()
	c := command(dir, "umount", "mnt")
	errs, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// One that says nothing is not waited for.
	silence := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	defer silence.Stop()
	r := bufio.NewReader(errs)
	line, err := r.ReadString('\n')
	if line != want {
		t.Errorf("umount says %q (%v), want %q", line, err, want)
	}
	goOn()
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("umount says then: %q, %v", rest, err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("umount ends with %v", err)
	}
}
