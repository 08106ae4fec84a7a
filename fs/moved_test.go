package fs_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/test/disktest"
)

// A file that was synced after it had lost its name in one folder, and has one in another,
// has but that after a power cut: also on btrfs, where an fsync of a folder tells of no other.
func TestFsyncKeepsMove(t *testing.T) {
	exec.Command("modprobe", "btrfs").Run()
	if known, err := os.ReadFile("/proc/filesystems"); err != nil || !bytes.Contains(known, []byte("\tbtrfs\n")) {
		t.Skipf("this kernel has no btrfs: %v", err)
	}
	link := func(from, to string) error { return errors.Join(os.Link(from, to), os.Remove(from)) }
	unlink := func(from, to string) error {
		return errors.Join(os.Link(from, to), syncPath(to), os.Remove(from))
	}
	fdatasync := func(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
	for _, way := range []struct {
		name, backing string
		move          func(from, to string) error
		sync          func(f *os.File) error
	}{
		{"rename, fsync", "f.lazy", os.Rename, (*os.File).Sync},
		{"rename, fdatasync", "f.lazy", os.Rename, fdatasync},
		{"rename, fsync", "plain", os.Rename, (*os.File).Sync},
		{"link, unlink, fsync", "f.lazy", link, (*os.File).Sync},
		{"unlink, fsync", "f.lazy", unlink, (*os.File).Sync},
		{"unlink, fdatasync", "f.lazy", unlink, fdatasync},
	} {
		disk := disktest.Make(t, t.TempDir(), ",commit=300", "mkfs.btrfs", "--mixed")
		for _, dir := range []string{"a", "b"} {
			if err := os.Mkdir(filepath.Join(disk.Dir, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		pack(t, filepath.Join(disk.Dir, "a", "f.lazy"), text(1, 50_000))
		write(t, filepath.Join(disk.Dir, "a", "plain"), text(1, 50_000))
		unix.Sync()
		d := mountRW(t, disk.Dir)
		from := d.path("a/" + strings.TrimSuffix(way.backing, ".lazy"))
		to := d.path("b/" + strings.TrimSuffix(way.backing, ".lazy"))
		if err := way.move(from, to); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(to)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(way.sync(f), f.Close()); err != nil {
			t.Fatal(err)
		}
		// Two images of one btrfs can't be mounted at the same time.
		image, after := disk.Copy(), t.TempDir()
		d.umount()
		disk.Run("umount", disk.Dir)
		disk.Mount(image, after)
		_, errA := os.Lstat(filepath.Join(after, "a", way.backing))
		_, errB := os.Lstat(filepath.Join(after, "b", way.backing))
		if !errors.Is(errA, os.ErrNotExist) || errB != nil {
			t.Errorf("%s of %s: where it was: %v, where it is: %v; want just the latter", way.name, way.backing, errA, errB)
		}
		disk.Run("umount", after)
	}
}

// syncPath is fsync of the file at path.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
