package uffdmap

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// What was synced of a mapping is there when the power goes as soon as Sync has returned.
func TestSyncIsDurable(t *testing.T) {
	disk := newDisk(t)
	data := content(1<<20, 1)
	change := func(b []byte, seed uint64) {
		for _, off := range []int{0, 100_000, 700_000} {
			copy(b[off:], content(5000, seed))
		}
	}
	for i, limit := range []int64{0, 256 << 10} {
		o := Options{Writable: true, MemoryLimit: limit}
		path := filepath.Join(disk.dir, "x.lazy")
		os.Remove(path)
		must(t, "pack", packTo(path, data, store.CreateOptions{}))
		unix.Sync()
		want := append([]byte(nil), data...)

		m, err := Map(path, o)
		must(t, "Map", err)
		change(want, uint64(10+i))
		change(m.Bytes(), uint64(10+i))
		must(t, "Sync", m.Sync())
		same(t, "served mapping", stored(t, disk.cut("x.lazy")), want)
		must(t, "Close", m.Close())

		v, err := Open(path, o)
		must(t, "Open", err)
		change(want, uint64(20+i))
		for _, off := range []int64{0, 100_000, 700_000} {
			s, err := v.Edit(off, 5000)
			must(t, "Edit", err)
			copy(s.Bytes(), want[off:])
			s.Release()
		}
		must(t, "Sync", v.Sync())
		same(t, "View mapping", stored(t, disk.cut("x.lazy")), want)
		must(t, "Close", v.Close())
	}
}

// A disk is an ext4 that writes nothing by itself for minutes.
type disk struct {
	t          *testing.T
	image, dir string // dir is where it is mounted
}

// newDisk makes a disk of 64 MiB.
func newDisk(t *testing.T) *disk {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("there are no loop devices for this user: %v", err)
	}
	control.Close()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	d := &disk{t, filepath.Join(t.TempDir(), "image"), t.TempDir()}
	must(t, "make image", errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 64<<20)))
	d.run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image)
	d.mount(d.image, d.dir)
	return d
}

// cut returns the path of the file called name as it would be if the power were cut now.
func (d *disk) cut(name string) string {
	d.t.Helper()
	image, dir := filepath.Join(d.t.TempDir(), "cut"), d.t.TempDir()
	d.run("cp", "--sparse=always", d.image, image)
	d.mount(image, dir)
	return filepath.Join(dir, name)
}

func (d *disk) mount(image, dir string) {
	d.t.Helper()
	d.run("mount", "-o", "loop,commit=300", image, dir)
	d.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

func (d *disk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}
