package fs_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A disk is a file system that writes nothing by itself for minutes.
type disk struct {
	t     *testing.T
	image string
	dir   string // where it is mounted

	options string // of mount(8)
}

// newDisk makes a disk of 64 MiB in folder, with a journal or without.
func newDisk(t *testing.T, folder string, journal bool) *disk {
	t.Helper()
	if journal {
		return newDiskWith(t, folder, "has_journal", ",commit=300")
	}
	return newDiskWith(t, folder, "^has_journal", "")
}

// newDiskWith is newDisk with a feature of mkfs.ext4(8) and options of mount(8).
func newDiskWith(t *testing.T, folder, feature, options string) *disk {
	t.Helper()
	// With the inode tables and the journal written nothing happens in the background.
	return makeDisk(t, folder, options, "mkfs.ext4", "-F", "-O", feature, "-E", "lazy_itable_init=0,lazy_journal_init=0")
}

// makeDisk is newDiskWith with any mkfs.
func makeDisk(t *testing.T, folder, options string, mkfs ...string) *disk {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no loop devices: %v", err)
	}
	control.Close()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	d := &disk{t: t, image: filepath.Join(folder, "image"), dir: t.TempDir(), options: options}
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	d.run(mkfs[0], append(mkfs[1:], "-q", d.image)...)
	d.mount(d.image, d.dir)
	return d
}

func (d *disk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

func (d *disk) mount(image, dir string) {
	d.t.Helper()
	d.run("mount", "-o", "loop"+d.options, image, dir)
	d.t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
}

// cut returns a folder with what would be there if the power were cut now.
func (d *disk) cut() string {
	d.t.Helper()
	image, dir := d.copied(), d.t.TempDir()
	d.mount(image, dir)
	return dir
}

// copied returns a file with what would be on the disk if the power were cut now.
func (d *disk) copied() string {
	d.t.Helper()
	image := filepath.Join(d.t.TempDir(), "cut")
	d.run("cp", "--sparse=always", d.image, image)
	return image
}
