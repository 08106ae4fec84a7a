// Package disktest makes file systems for tests, and shows what a power cut would leave of
// them.
package disktest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// size is that of a disk in bytes.
const size = 64 << 20

// A Disk is a file system that writes nothing by itself for minutes. It ends with the test.
type Disk struct {
	Dir string // where it is mounted

	t       *testing.T
	image   string
	options string // of mount(8)
}

// New makes an ext4 with a journal.
func New(t *testing.T) *Disk {
	t.Helper()
	return NewWith(t, t.TempDir(), "has_journal", ",commit=300")
}

// NewWith makes an ext4 in folder with a feature of mkfs.ext4(8) and options of mount(8), a
// comma before each.
func NewWith(t *testing.T, folder, feature, options string) *Disk {
	t.Helper()
	// With the inode tables and the journal written nothing happens in the background.
	return Make(t, folder, options, "mkfs.ext4", "-F", "-O", feature, "-E", "lazy_itable_init=0,lazy_journal_init=0")
}

// Make is NewWith with any mkfs. Where there are no loop devices, or not for this user, the
// test is skipped.
func Make(t *testing.T, folder, options string, mkfs ...string) *Disk {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("there are no loop devices for this user: %v", err)
	}
	control.Close()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	d := &Disk{Dir: t.TempDir(), t: t, image: filepath.Join(folder, "image"), options: options}
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, size)); err != nil {
		t.Fatal(err)
	}
	d.Run(mkfs[0], append(mkfs[1:], "-q", d.image)...)
	d.Mount(d.image, d.Dir)
	return d
}

// Run runs a program that must not fail.
func (d *Disk) Run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// Mount mounts an image of the disk on dir.
func (d *Disk) Mount(image, dir string) {
	d.t.Helper()
	d.Run("mount", "-o", "loop"+d.options, image, dir)
	d.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// Cut returns a folder with what would be there if the power were cut now.
func (d *Disk) Cut() string {
	d.t.Helper()
	image, dir := d.Copy(), d.t.TempDir()
	d.Mount(image, dir)
	return dir
}

// Copy returns a file with what would be on the disk if the power were cut now.
func (d *Disk) Copy() string {
	d.t.Helper()
	image := filepath.Join(d.t.TempDir(), "cut")
	d.Run("cp", "--sparse=always", d.image, image)
	return image
}
