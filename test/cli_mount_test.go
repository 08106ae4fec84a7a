package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// mountStore mounts with the command line and unmounts by force at the end of
// the test, should that be necessary still.
func mountStore(t *testing.T, dir string, args ...string) string {
	t.Helper()
	at := filepath.Join(dir, args[len(args)-1])
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) }) // fails when it is unmounted, as it should be
	return must(t, dir, append([]string{"mount"}, args...)...)
}

// daemonOf returns the process that serves the mount at dir.
func daemonOf(t *testing.T, dir string) int {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	name := strconv.Itoa(int(unix.Major(st.Dev))) + ":" + strconv.Itoa(int(unix.Minor(st.Dev)))
	var record struct{ PID int }
	if err := json.Unmarshal(read(t, "/run/lazyfs/"+name), &record); err != nil {
		t.Fatal(err)
	}
	return record.PID
}

// alive says whether a thread of a process is not dead. What it had open is closed when
// none is.
func alive(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(threads, func(path string) bool {
		b, err := os.ReadFile(path)
		// After the name in parentheses comes the state; Z is dead.
		_, state, _ := strings.Cut(string(b), ") ")
		return err == nil && !strings.HasPrefix(state, "Z")
	})
}

func mounted(t *testing.T, dir string) bool {
	t.Helper()
	return strings.Contains(string(read(t, "/proc/self/mountinfo")), " "+dir+" ")
}

// A store is mounted as one file, read-only, by a daemon that is ready when
// mount returns and gone when umount returns.
func TestMount(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 3<<20+5)
	write(t, dir+"/plain", plain)
	must(t, dir, "pack", "plain", "x.img.lazy")
	if got, want := mountStore(t, dir, "x.img.lazy", "mnt"), "mnt: x.img.lazy mounted read-only\n"; got != want {
		t.Errorf("mount says %q, want %q", got, want)
	}
	if got := list(t, dir+"/mnt"); !slices.Equal(got, []string{"x.img"}) {
		t.Errorf("mount holds %q", got)
	}
	if !bytes.Equal(read(t, dir+"/mnt/x.img"), plain) {
		t.Error("mounted file has other bytes")
	}
	if _, err := os.OpenFile(dir+"/mnt/x.img", os.O_RDWR, 0); err == nil {
		t.Error("file of a read-only mount can be opened for writing")
	}
	pid := daemonOf(t, dir+"/mnt")
	if out := must(t, dir, "umount", "mnt"); out != "" {
		t.Errorf("umount prints %q", out)
	}
	if alive(pid) || mounted(t, dir+"/mnt") {
		t.Error("after umount the daemon or the mount is there still")
	}
	fails(t, dir, 3, "lazyfs umount: mnt: nothing is mounted here", "umount", "mnt")
}

// Where root can't write to /run, as in some containers, a mount is found all the same.
func TestMountWithoutRun(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", nil)
	must(t, dir, "pack", "plain", "x.lazy")
	c := exec.Command("unshare", "--mount", "sh", "-euc", `
		mkdir mnt
		mount -t tmpfs -o ro none /run
		"$0" mount --quiet x.lazy mnt
		"$0" umount mnt
		rmdir /tmp/lazyfs-0`, binary)
	c.Dir = dir
	if r := finish(t, c); r != (result{}) {
		t.Errorf("mount and umount: %+v, want silence", r)
	}
}

// Who allows more memory than there is gets what there is.
func TestMountLargeCache(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 1<<20)
	write(t, dir+"/plain", plain)
	must(t, dir, "pack", "plain", "x.lazy")
	mountStore(t, dir, "--cache", "7E", "x.lazy", "mnt")
	if !bytes.Equal(read(t, dir+"/mnt/x"), plain) {
		t.Error("mounted file has other bytes")
	}
	must(t, dir, "umount", "mnt")
}

// What is written through a mount of a folder is in its stores when umount
// returns, without any sync.
func TestMountFolderWritable(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 1<<20)
	write(t, dir+"/stores/old", plain)
	must(t, dir, "pack", "--quiet", "stores/old", "stores/packed.lazy")
	got := mountStore(t, dir, "stores", "--rw", "--codec=zstd", "--log", "log", "--frame", "64K", "mnt")
	if want := "mnt: stores mounted read-write\n"; got != want {
		t.Errorf("mount says %q, want %q", got, want)
	}
	write(t, dir+"/mnt/new", plain[1000:])
	f, err := os.OpenFile(dir+"/mnt/packed", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("NEW"), 4095); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "umount", "mnt")
	copy(plain[4095:], "NEW")
	if got := must(t, dir, "cat", "stores/packed.lazy"); got != string(plain) {
		t.Error("written store has other bytes")
	}
	copy(plain[4095:], text(1, 1<<20)[4095:4098])
	if got := must(t, dir, "cat", "stores/new.lazy"); got != string(plain[1000:]) {
		t.Error("new store has other bytes")
	}
	if out := must(t, dir, "info", "stores/new.lazy"); !strings.Contains(out, "zstd") || !strings.Contains(out, "65536") {
		t.Errorf("new store is not of zstd and 64 KiB:\n%s", out)
	}
	must(t, dir, "check", "stores/new.lazy", "stores/packed.lazy")
}

// The error of a mount that can't be made comes from the daemon to the user, as
// one line and an exit code, and no daemon stays.
func TestMountFails(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1000))
	if err := os.Mkdir(dir+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, line string }{
		{"plain mnt", "lazyfs mount: "},
		{"none mnt", "lazyfs mount: "},
		{". plain", "lazyfs mount: "},
		{". none", "lazyfs mount: "},
		{". mnt --log none/log", "lazyfs mount: open none/log: no such file or directory"},
	} {
		r := lazyfs(t, dir, append([]string{"mount"}, strings.Fields(c.args)...)...)
		failed(t, r, 3, c.line)
		if r.out != "" || mounted(t, dir+"/mnt") {
			t.Errorf("mount %s: prints %q, mounted: %v", c.args, r.out, mounted(t, dir+"/mnt"))
		}
	}
}

// A second mount of one source in one place, which would hide the first, is refused,
// whatever path names the source. One of another source is not.
func TestMountTwice(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	write(t, dir+"/others/other", nil)
	mountStore(t, dir, "stores", "mnt")
	if err := os.Symlink("stores", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"stores", "link"} {
		want := "lazyfs mount: " + dir + "/mnt: " + dir + "/" + source + " is mounted there already"
		fails(t, dir, 3, want, "mount", "--rw", source, "mnt")
	}
	mountStore(t, dir, "others", "mnt")
	if got := list(t, dir+"/mnt"); !slices.Equal(got, []string{"other"}) {
		t.Errorf("the mount on top shows %q", got)
	}
	must(t, dir, "umount", "mnt")
	must(t, dir, "umount", "mnt")
	mountStore(t, dir, "stores", "mnt")
	must(t, dir, "umount", "mnt")
}

// Of two mounts of one source in one place at the same time one is refused, and the
// other is found by umount.
func TestMountTwiceAtOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	if err := os.Mkdir(dir+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for unix.Unmount(dir+"/mnt", unix.MNT_DETACH) == nil {
		}
	})
	for range 10 {
		var results [2]result
		var both sync.WaitGroup
		for i := range results {
			both.Go(func() { results[i] = lazyfs(t, dir, "mount", "--rw", "stores", "mnt") })
		}
		both.Wait()
		if results[0].code == 0 {
			slices.Reverse(results[:])
		}
		failed(t, results[0], 3, "lazyfs mount: "+dir+"/mnt: "+dir+"/stores is mounted there already\n")
		if results[1].code != 0 {
			t.Errorf("the other mount ends with %d: %s", results[1].code, results[1].err)
		}
		must(t, dir, "umount", "mnt")
		if mounted(t, dir+"/mnt") {
			t.Fatal("still mounted after umount")
		}
	}
}

// A mount in use is not unmounted; the error names it and its user.
func TestUmountBusy(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1000))
	must(t, dir, "pack", "plain", "x.lazy")
	mountStore(t, dir, "x.lazy", "mnt")
	user := exec.Command("cat")
	user.Dir = dir + "/mnt"
	in, err := user.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	fails(t, dir, 3, "lazyfs umount: "+dir+"/mnt: is busy: in use by cat (pid "+strconv.Itoa(user.Process.Pid)+")", "umount", "mnt")
	if len(list(t, dir+"/mnt")) != 1 {
		t.Error("busy mount does not work after umount")
	}
	in.Close()
	if err := user.Wait(); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "umount", "mnt")
}

// SIGTERM, SIGINT and SIGHUP end a mount as umount does: all that was written is there.
func TestMountSignals(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		dir := t.TempDir()
		write(t, dir+"/stores/README", nil)
		mountStore(t, dir, "--rw", "stores", "mnt")
		plain := text(1, 1<<20)
		write(t, dir+"/mnt/x", plain)
		pid := daemonOf(t, dir+"/mnt")
		if err := unix.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the daemon has ended", func() bool { return !alive(pid) })
		if mounted(t, dir+"/mnt") {
			t.Errorf("%v: still mounted", signal)
		}
		if got := must(t, dir, "cat", "stores/x.lazy"); got != string(plain) {
			t.Errorf("%v: store has other bytes", signal)
		}
	}
}

// After a daemon was killed, the place is free for another mount only when umount has
// removed the old one. umount removes the mount and does not claim that
// everything is durable, unless nothing could have been written.
func TestUmountAfterKill(t *testing.T) {
	for _, rw := range []bool{false, true} {
		dir := t.TempDir()
		write(t, dir+"/stores/README", nil)
		args := []string{"stores", "mnt"}
		if rw {
			args = append([]string{"--rw"}, args...)
		}
		mountStore(t, dir, args...)
		pid := daemonOf(t, dir+"/mnt")
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the daemon has ended", func() bool { return !alive(pid) })
		fails(t, dir, 3, "lazyfs mount: "+dir+"/mnt: is a mount whose daemon is dead: unmount it first", "mount", "stores", "mnt")
		if rw {
			fails(t, dir, 3, "lazyfs umount: "+dir+"/mnt: unmounted, but its daemon (pid "+strconv.Itoa(pid)+") was killed: ", "umount", "mnt")
		} else {
			must(t, dir, "umount", "mnt")
		}
		if mounted(t, dir+"/mnt") {
			t.Error("still mounted after umount")
		}
		noRecord(t, dir)
		mountStore(t, dir, args...)
		must(t, dir, "umount", "mnt")
	}
}

// noRecord checks that no record of a mount of what lies in dir is left.
func noRecord(t *testing.T, dir string) {
	t.Helper()
	records, _ := filepath.Glob("/run/lazyfs/*") // never fails
	for _, path := range records {
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(dir+"/")) {
			t.Errorf("the record %s is left: %s", path, b)
		}
	}
}

// With --foreground the program itself serves, says so, and ends with 0.
func TestMountForeground(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", []byte("read me"))
	if err := os.Mkdir(dir+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	c := command(dir, "mount", "--foreground", "stores", "mnt")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "mnt: stores mounted read-only\n" {
		t.Errorf("mount --foreground says %q (%v)", line, err)
	}
	if got := read(t, dir+"/mnt/README"); string(got) != "read me" {
		t.Errorf("mounted file is %q", got)
	}
	if pid := daemonOf(t, dir+"/mnt"); pid != c.Process.Pid {
		t.Errorf("mount is served by process %d, want %d", pid, c.Process.Pid)
	}
	must(t, dir, "umount", "mnt")
	if err := c.Wait(); err != nil {
		t.Errorf("mount --foreground ends with %v", err)
	}
}
