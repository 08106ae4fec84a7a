package test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a command has named is whole when the power goes as soon as it has ended.
func TestDoneIsDurable(t *testing.T) {
	disk := newDisk(t)
	dir := disk.dir
	plain, other := text(1, 300_000), text(2, 200_000)
	write(t, dir+"/plain", plain)
	write(t, dir+"/other", other)
	for _, name := range []string{"a", "sub/b"} {
		write(t, filepath.Join(dir, "tree", name), plain)
	}
	unix.Sync()
	for _, step := range []struct {
		args []string
		made []string // files
		hold []byte
	}{
		{[]string{"pack", "plain", "x.lazy"}, []string{"x.lazy"}, plain},
		{[]string{"pack", "tree", "stores"}, []string{"stores/a.lazy", "stores/sub/b.lazy"}, plain},
		{[]string{"unpack", "x.lazy", "back"}, []string{"back"}, plain},
		{[]string{"unpack", "stores", "backs"}, []string{"backs/a", "backs/sub/b"}, plain},
		{[]string{"copy", "x.lazy", "y.lazy"}, []string{"y.lazy"}, plain},
		{[]string{"check", "--quiet", "--repair", "x.lazy"}, []string{"x.repaired.lazy"}, plain},
		{[]string{"pack", "--force", "other", "x.lazy"}, []string{"x.lazy"}, other},
		{[]string{"unpack", "--force", "x.lazy", "back"}, []string{"back"}, other},
		{[]string{"copy", "--force", "x.lazy", "y.lazy"}, []string{"y.lazy"}, other},
	} {
		must(t, dir, step.args...)
		after := disk.cut()
		for _, name := range step.made {
			got, err := os.ReadFile(filepath.Join(after, name))
			if err == nil && filepath.Ext(name) == ".lazy" {
				r := lazyfs(t, after, "cat", name)
				got = []byte(r.out)
			}
			if err != nil || !bytes.Equal(got, step.hold) {
				t.Errorf("after %q and a power cut %s has %d bytes, %v; want what was packed, %d bytes", step.args, name, len(got), err, len(step.hold))
			}
		}
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
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	d.run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image)
	d.mount(d.image, d.dir)
	return d
}

// cut returns a folder with what would be there if the power were cut now.
func (d *disk) cut() string {
	d.t.Helper()
	image, dir := filepath.Join(d.t.TempDir(), "cut"), d.t.TempDir()
	d.run("cp", "--sparse=always", d.image, image)
	d.mount(image, dir)
	return dir
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
