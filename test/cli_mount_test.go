package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	// After the name in parentheses comes the state; Z is dead.
	_, state, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(state, "Z")
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

// SIGTERM and SIGINT end a mount as umount does: all that was written is there.
func TestMountSignals(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT} {
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

// After a daemon was killed, umount removes the mount and does not claim that
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
		if rw {
			fails(t, dir, 3, "lazyfs umount: "+dir+"/mnt: unmounted, but its daemon (pid "+strconv.Itoa(pid)+") was killed: ", "umount", "mnt")
		} else {
			must(t, dir, "umount", "mnt")
		}
		if mounted(t, dir+"/mnt") {
			t.Error("still mounted after umount")
		}
		mountStore(t, dir, args...)
		must(t, dir, "umount", "mnt")
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

// The daemon holds nothing of its starter: neither its pipes, nor its session,
// nor its folder.
func TestDaemonIsAlone(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	mountStore(t, dir, "stores", "mnt") // returns only when nobody has its pipes open
	pid := daemonOf(t, dir+"/mnt")
	if sid, err := unix.Getsid(pid); sid != pid || err != nil {
		t.Errorf("daemon %d is in session %d (%v)", pid, sid, err)
	}
	proc := "/proc/" + strconv.Itoa(pid)
	for link, want := range map[string]string{"/cwd": "/", "/fd/0": "/dev/null", "/fd/1": "/dev/null", "/fd/2": "/dev/null"} {
		if got, err := os.Readlink(proc + link); got != want || err != nil {
			t.Errorf("daemon's %s is %q (%v), want %q", link, got, err, want)
		}
	}
	must(t, dir, "umount", "mnt")
}

// info --mount shows what the daemon of a mount has done, as text and as JSON.
func TestInfoMount(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	mountStore(t, dir, "--rw", "stores", "mnt")
	write(t, dir+"/mnt/x", text(1, 100_000))
	var infos []struct {
		Mount        string
		PID          int
		WrittenBytes int64 `json:"written_bytes"`
		Opens        int64
	}
	if err := json.Unmarshal([]byte(must(t, dir, "info", "--json", "--mount", "mnt")), &infos); err != nil {
		t.Fatal(err)
	}
	if len(infos) != 1 || infos[0].Mount != "mnt" || infos[0].PID != daemonOf(t, dir+"/mnt") || infos[0].WrittenBytes != 100_000 || infos[0].Opens != 1 {
		t.Errorf("info --mount --json gives %+v", infos)
	}
	out := must(t, dir, "info", "--mount", "mnt")
	for _, want := range []string{"mnt\n", "\n  writes ", " 97.7 KiB\n", " 0 times damage"} {
		if !strings.Contains(out, want) {
			t.Errorf("info --mount does not say %q:\n%s", want, out)
		}
	}
	fails(t, dir, 3, "lazyfs info: stores: nothing is mounted here", "info", "--mount", "stores")
	fails(t, dir, 3, "lazyfs info: none: ", "info", "--mount", "none")
	must(t, dir, "umount", "mnt")
}

// Under the name mount.fuse.lazyfs the program is the helper of mount(8): it takes
// a line of fstab as mount(8) passes it on, is silent, and serves in a daemon.
func TestMountHelper(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/old", []byte("old"))
	for _, sub := range []string{"/mnt", "/bin"} {
		if err := os.Mkdir(dir+sub, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.Unmount(dir+"/mnt", unix.MNT_DETACH) }) // fails when it is unmounted, as it should be
	if err := os.Symlink(binary, dir+"/bin/mount.fuse.lazyfs"); err != nil {
		t.Fatal(err)
	}
	helper := func(args ...string) result {
		t.Helper()
		c := exec.Command(dir+"/bin/mount.fuse.lazyfs", args...)
		c.Dir = dir
		return finish(t, c)
	}
	flags := func() int64 {
		t.Helper()
		var st unix.Statfs_t
		if err := unix.Statfs(dir+"/mnt", &st); err != nil {
			t.Fatal(err)
		}
		return st.Flags & (unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC)
	}
	r := helper("stores", "mnt", "-n", "-s", "-v", "-t", "fuse.lazyfs", "-o",
		"rw,allow_other,noexec,cache=16M,codec=zstd,level=3,frame=64K,log="+dir+"/log,_netdev,nofail,noatime,user=root,x-systemd.automount")
	if r != (result{}) {
		t.Fatalf("mount.fuse.lazyfs: %+v, want silence", r)
	}
	if got := flags(); got != unix.ST_NOEXEC {
		t.Errorf("the mount's flags are %#x, want %#x", got, unix.ST_NOEXEC)
	}
	write(t, dir+"/mnt/new", text(1, 1<<20))
	if out := must(t, dir, "info", "stores/new.lazy"); !strings.Contains(out, "zstd") || !strings.Contains(out, "65536") {
		t.Errorf("new store is not of zstd and 64 KiB:\n%s", out)
	}
	// mount(8) repeats the options of a mount that it changes.
	again := ",noexec,remount,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576"
	if r := helper("stores", "mnt", "-o", "ro"+again); r != (result{}) || flags() != unix.ST_RDONLY|unix.ST_NOEXEC {
		t.Errorf("remount ro: %+v, flags %#x", r, flags())
	}
	if r := helper("stores", "mnt", "-o", "rw"+again); r != (result{}) || flags() != unix.ST_NOEXEC {
		t.Errorf("remount rw: %+v, flags %#x", r, flags())
	}
	write(t, dir+"/mnt/newer", nil)
	must(t, dir, "umount", "mnt")

	// Without a word it is writable.
	if r := helper("stores", "mnt"); r != (result{}) || flags() != unix.ST_NOSUID|unix.ST_NODEV {
		t.Errorf("without options: %+v, flags %#x", r, flags())
	}
	must(t, dir, "umount", "mnt")
	if r := helper("stores", "mnt", "-o", "ro,nosuid"); r != (result{}) || flags() != unix.ST_RDONLY|unix.ST_NOSUID|unix.ST_NODEV {
		t.Errorf("ro: %+v, flags %#x", r, flags())
	}
	failed(t, helper("stores", "mnt", "-o", "rw,remount"), 3, "lazyfs mount: "+dir+"/mnt: its daemon serves it read-only: ")
	must(t, dir, "umount", "mnt")
	failed(t, helper("stores", "mnt", "-o", "rw,remount"), 3, "lazyfs mount: "+dir+"/mnt: nothing is mounted here")
	failed(t, helper("stores", "mnt", "-o", "rw,bogus=1"), 2, "lazyfs mount: --options rw,bogus=1: bogus=1: unknown option")
	failed(t, helper("none", "mnt"), 3, "lazyfs mount: ")
	failed(t, lazyfs(t, dir, "mount", "-o", "codec=zstd", "stores", "mnt"), 2, "lazyfs mount: --codec: has no meaning without --rw")
}
