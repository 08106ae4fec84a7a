package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The uppermost mount on a folder is found, whatever its name, and no other.
func TestParseMounts(t *testing.T) {
	const info = `22 1 254:0 / / rw,relatime - ext4 /dev/root rw
40 22 0:30 / /mnt rw - tmpfs tmpfs rw,size=4k
41 40 0:55 / /mnt rw,nosuid,nodev,relatime shared:5 master:1 - fuse.lazyfs /data/x.lazy rw,user_id=1000,group_id=1000
42 22 0:56 / /a\040b\134c rw,relatime - fuse.lazyfs /data\043\0401 rw,user_id=0,group_id=0
43 22 0:57 / /mnt/sub rw,relatime - fuse.other  rw,user_id=7
` + "44 22 0:58 / /a\u00a0b\rc\v rw - fuse.lazyfs /\fd rw,user_id=0\n" // The kernel escapes no other white space.
	mounts, err := parseMounts(strings.NewReader(info))
	if err != nil || len(mounts) != 6 {
		t.Fatalf("parseMounts gives %d mounts, %v, want 6", len(mounts), err)
	}
	for dir, want := range map[string]mountPoint{
		"/mnt":     {device: "0:55", dir: "/mnt", fsType: "fuse.lazyfs", source: "/data/x.lazy", uid: 1000},
		`/a b\c`:   {device: "0:56", dir: `/a b\c`, fsType: "fuse.lazyfs", source: "/data# 1"},
		"/mnt/sub": {device: "0:57", dir: "/mnt/sub", fsType: "fuse.other", uid: 7},
		"/mn":      {},

		"/a\u00a0b\rc\v": {device: "0:58", dir: "/a\u00a0b\rc\v", fsType: "fuse.lazyfs", source: "/\fd"},
	} {
		if got, ok := uppermost(mounts, dir); got != want || ok != (want.dir != "") {
			t.Errorf("uppermost(%q) = %+v, %t, want %+v", dir, got, ok, want)
		}
	}
}

// mountDead mounts source on dir as lazyfs does, and serves it no more.
func mountDead(t *testing.T, source, dir string) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Mount(source, dir, mountType, 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// A dead mount is found by its name, and by that of a link to it, or to one.
func TestResolveDeadMount(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	mnt := filepath.Join(dir, "mnt")
	if err := errors.Join(os.Mkdir(mnt, 0o700), os.Symlink("mnt", dir+"/relative"), os.Symlink(dir+"/relative", dir+"/link"), os.Symlink("loop", dir+"/loop")); err != nil {
		t.Fatal(err)
	}
	mountDead(t, "source", mnt)
	for _, name := range []string{"mnt", "relative", "link"} {
		if got, err := resolveMountDir(filepath.Join(dir, name)); got != mnt || err != nil {
			t.Errorf("%s is %q, %v, want %q", name, got, err, mnt)
		}
	}
	if got, err := resolveMountDir(dir + "/loop"); got != dir+"/loop" || err != nil {
		t.Errorf("a link to itself is %q, %v, want its name", got, err)
	}
}

// Only a daemon whose mount is gone is waited for: the device number may be that of a newer
// mount, of another source.
func TestRecordMounted(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	mountDead(t, "source", dir)
	m, err := findMount(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source, device string
		want           bool
	}{{"source", m.device, true}, {"other", m.device, false}, {"source", "0:0", false}} {
		r := record{recordData: recordData{PID: os.Getpid(), Source: c.source}}
		if got := r.mounted(c.device); got != c.want {
			t.Errorf("%s of device %s is mounted: %t, want %t", c.source, c.device, got, c.want)
		}
	}
}

// A mount waits for one of the same source, or of one in it or around it.
func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"/none", "/none", true}, {"/none", "/none/x", true}, {"/none/x", "/none", true}, {"/none", "/none.lazy", false}, {"/none/x", "/none/y", false}} {
		if got := overlap(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: %t, want %t", c.a, c.b, got, c.want)
		}
	}
}
