package test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountFlags are those flags of the mount at dir that lazyfs has options for.
func mountFlags(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Flags & (unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC)
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
	flags := func() int64 { return mountFlags(t, dir+"/mnt") }
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
	// mount(8) repeats the options of a mount that it changes, and those of its line.
	again := ",codec=zstd,noexec,remount,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576"
	if r := helper("stores", "mnt", "-o", "ro"+again); r != (result{}) || flags() != unix.ST_RDONLY|unix.ST_NOEXEC {
		t.Errorf("remount ro: %+v, flags %#x", r, flags())
	}
	if r := helper("stores", "mnt", "-o", "rw"+again); r != (result{}) || flags() != unix.ST_NOEXEC {
		t.Errorf("remount rw: %+v, flags %#x", r, flags())
	}
	write(t, dir+"/mnt/newer", nil)
	// For remount,exec mount(8) leaves noexec out.
	if r := helper("stores", "mnt", "-o", strings.Replace("rw"+again, ",noexec", "", 1)); r != (result{}) || flags() != 0 {
		t.Errorf("remount exec: %+v, flags %#x", r, flags())
	}
	must(t, dir, "umount", "mnt")

	// Without a word it is writable.
	if r := helper("stores", "mnt"); r != (result{}) || flags() != unix.ST_NOSUID|unix.ST_NODEV {
		t.Errorf("without options: %+v, flags %#x", r, flags())
	}
	must(t, dir, "umount", "mnt")
	if r := helper("stores", "mnt", "-o", "codec=zstd,ro,nosuid"); r != (result{}) || flags() != unix.ST_RDONLY|unix.ST_NOSUID|unix.ST_NODEV {
		t.Errorf("ro: %+v, flags %#x", r, flags())
	}
	failed(t, helper("stores", "mnt", "-o", "rw,remount"), 3, "lazyfs mount: "+dir+"/mnt: its daemon serves it read-only: ")
	must(t, dir, "umount", "mnt")
	failed(t, helper("stores", "mnt", "-o", "rw,remount"), 3, "lazyfs mount: "+dir+"/mnt: nothing is mounted here")
	failed(t, helper("stores", "mnt", "-o", "rw,bogus=1"), 2, "lazyfs mount: --options rw,bogus=1: bogus=1: unknown option")

	// mount -f, such as mount -fav, tries the line of fstab and mounts nothing.
	if r := helper("stores", "mnt", "-f", "-v", "-o", "rw,cache=16M"); r != (result{}) {
		t.Errorf("-f: %+v, want silence", r)
	}
	fails(t, dir, 3, "lazyfs umount: mnt: nothing is mounted here", "umount", "mnt")
	failed(t, helper("stores", "mnt", "-f", "-o", "rw,cache=1"), 2, "lazyfs mount: --cache 1: want at least 1M")

	failed(t, helper("none", "mnt"), 3, "lazyfs mount: ")
	failed(t, lazyfs(t, dir, "mount", "-o", "codec=zstd", "stores", "mnt"), 2, "lazyfs mount: --codec: has no meaning without --rw")
}

// remount changes what its options name, and nothing else. Of two that contradict each
// other the last one holds.
func TestRemount(t *testing.T) {
	const all = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	mountStore(t, dir, "--rw", "-o", "exec,noexec", "stores", "mnt")
	// A flag that lazyfs has no option for stays, too.
	if err := unix.Mount("", dir+"/mnt", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOSYMFOLLOW|unix.MS_NOATIME, ""); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		options string
		want    int64
	}{
		{"remount", all &^ unix.ST_RDONLY},
		{"remount,ro", all},
		{"remount,exec", all &^ unix.ST_NOEXEC},
		{"remount,nodev,noexec,dev", all &^ unix.ST_NODEV},
		{"remount,rw,suid", unix.ST_NOEXEC},
		{"remount,nodev", unix.ST_NODEV | unix.ST_NOEXEC},
	} {
		must(t, dir, "mount", "-o", step.options, "stores", "mnt")
		if got := mountFlags(t, dir+"/mnt"); got != step.want {
			t.Errorf("after %s the mount's flags are %#x, want %#x", step.options, got, step.want)
		}
	}
	if info := string(read(t, "/proc/self/mountinfo")); !strings.Contains(info, " "+dir+"/mnt rw,nodev,noexec,noatime,nosymfollow ") {
		t.Errorf("noatime or nosymfollow is missing:\n%s", info)
	}
	must(t, dir, "umount", "mnt")
}
