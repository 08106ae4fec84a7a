package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the daemon could not write at the end is an error of umount, which names it, and
// a line of the log.
func TestUmountNotWritten(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	mountStore(t, dir, "--rw", "--log", "log", "stores", "mnt")
	// A file that it may not make longer stands for a disk that fails.
	limit := unix.Rlimit{Cur: 8192, Max: 8192}
	if err := unix.Prlimit(daemonOf(t, dir+"/mnt"), unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "y"} {
		if err := os.WriteFile(dir+"/mnt/"+name, noise(1, 1<<20), 0o644); !errors.Is(err, unix.EFBIG) {
			t.Errorf("write: %v, want EFBIG", err)
		}
	}
	r := lazyfs(t, dir, "umount", "mnt")
	what := "lazyfs umount: " + dir + "/mnt: unmounted, but not everything was written: "
	failed(t, r, 3, what)
	told := strings.TrimPrefix(r.err, what)
	for _, name := range []string{"x", "y"} {
		if lost := dir + "/stores/" + name + ".lazy: write " + name + ".lazy: file too large"; strings.Count(told, lost) != 1 {
			t.Errorf("umount tells %q, want %q once", told, lost)
		}
	}
	if log := string(read(t, dir+"/log")); !strings.HasSuffix(log, " "+told) {
		t.Errorf("the log is %q, want %q at its end", log, told)
	}
	if mounted(t, dir+"/mnt") {
		t.Error("still mounted after umount")
	}
}

// In another PID namespace the daemon's number is that of no process, or of a wrong one.
// It is not taken for dead there: the mount stays, and so does what was written.
func TestUmountInPIDNamespace(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	mountStore(t, dir, "--rw", "stores", "mnt")
	f, err := os.Create(dir + "/mnt/x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("not synced"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"umount", "mnt"}, {"mount", "stores", "mnt"}} {
		c := exec.Command("unshare", append([]string{"--pid", "--fork", binary}, args...)...)
		c.Dir = dir
		failed(t, finish(t, c), 3, fmt.Sprintf("lazyfs %s: %s/mnt: daemon %d can't be waited for: ", args[0], dir, daemonOf(t, dir+"/mnt")))
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	must(t, dir, "umount", "mnt")
	if got := must(t, dir, "cat", "stores/x.lazy"); got != "not synced" {
		t.Errorf("the file holds %q", got)
	}
}

// A mount whose record can't be written, by which umount would find its daemon, is none.
func TestMountWithoutRecord(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	c := exec.Command("unshare", "--mount", "sh", "-c", `
		mkdir mnt
		mount -t tmpfs -o size=4k none /run
		dd if=/dev/zero of=/run/full bs=4096 count=1 status=none
		"$0" mount stores mnt
		code=$?
		ls mnt /run/lazyfs >&2
		umount mnt 2>/dev/null # fails as it should
		exit $code`, binary)
	c.Dir = dir
	r := finish(t, c)
	if want := "lazyfs mount: write /run/lazyfs/"; r.code != 3 || r.out != "" || !strings.HasPrefix(r.err, want) {
		t.Errorf("mount: %+v, want exit code 3 and %q", r, want)
	}
	if want := ": no space left on device\n/run/lazyfs:\n\nmnt:\n"; !strings.HasSuffix(r.err, want) {
		t.Errorf("mount and what it left: %q, want %q at the end", r.err, want)
	}
}

// A mount that is interrupted before it is ready leaves no mount and no daemon.
func TestMountInterrupted(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	if err := os.Mkdir(dir+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	place, err := os.Open(dir + "/mnt")
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	// As another mount of the place does, this lets the daemon wait.
	if err := unix.Flock(int(place.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	c := command(dir, "mount", "stores", "mnt")
	errs, err := os.Create(dir + "/errors") // A pipe would stay open until the daemon's end.
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	c.Stderr = errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var daemon int
	eventually(t, "there is a daemon", func() bool {
		children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", c.Process.Pid))
		for _, path := range children {
			b, _ := os.ReadFile(path)
			if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				daemon = n
			}
		}
		return daemon != 0
	})
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // the exit code is checked below
	failed(t, result{err: string(read(t, dir+"/errors")), code: c.ProcessState.ExitCode()}, 3, "lazyfs mount: interrupted\n")
	if alive(daemon) || mounted(t, dir+"/mnt") {
		t.Error("the daemon or the mount is there still")
	}
}

// More signals do not keep a daemon from writing everything at its end.
func TestMountSecondSignal(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	mountStore(t, dir, "--rw", "stores", "mnt")
	f, err := os.Create(dir + "/mnt/x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain := text(1, 1<<20)
	if _, err := f.Write(plain); err != nil {
		t.Fatal(err)
	}
	pid := daemonOf(t, dir+"/mnt")
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// From now on the daemon waits for the end of the file.
	eventually(t, "the mount is out of sight", func() bool { return !mounted(t, dir+"/mnt") })
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGTERM} {
		if err := unix.Kill(pid, signal); err != nil {
			t.Errorf("%v: %v", signal, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	eventually(t, "the daemon has ended", func() bool { return !alive(pid) })
	if got := must(t, dir, "cat", "stores/x.lazy"); got != string(plain) {
		t.Error("the store has other bytes")
	}
}
