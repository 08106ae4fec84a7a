package fs_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that was moved to another folder and then synced has one name after a power cut,
// also on btrfs, where an fsync of the one folder leaves its name in the other.
func TestFsyncKeepsMove(t *testing.T) {
	exec.Command("modprobe", "btrfs").Run()
	if known, err := os.ReadFile("/proc/filesystems"); err != nil || !bytes.Contains(known, []byte("\tbtrfs\n")) {
		t.Skipf("this kernel has no btrfs: %v", err)
	}
	fdatasync := func(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
	for _, way := range []struct {
		file, backing string
		sync          func(f *os.File) error
	}{
		{"store", "store.lazy", (*os.File).Sync},
		{"store", "store.lazy", fdatasync},
		{"plain", "plain", (*os.File).Sync},
		{"plain", "plain", fdatasync},
	} {
		disk := makeDisk(t, t.TempDir(), ",commit=300", "mkfs.btrfs", "--mixed")
		for _, dir := range []string{"a", "b"} {
			if err := os.Mkdir(filepath.Join(disk.dir, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		pack(t, filepath.Join(disk.dir, "a", "store.lazy"), text(1, 50_000))
		write(t, filepath.Join(disk.dir, "a", "plain"), text(1, 50_000))
		unix.Sync()
		d := mountRW(t, disk.dir)
		if err := os.Rename(d.path("a/"+way.file), d.path("b/"+way.file)); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(d.path("b/" + way.file))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(way.sync(f), f.Close()); err != nil {
			t.Fatal(err)
		}
		// Two images of one btrfs can't be mounted at the same time.
		image, after := disk.copied(), t.TempDir()
		d.umount()
		disk.run("umount", disk.dir)
		disk.mount(image, after)
		_, errA := os.Lstat(filepath.Join(after, "a", way.backing))
		_, errB := os.Lstat(filepath.Join(after, "b", way.backing))
		if !errors.Is(errA, os.ErrNotExist) || errB != nil {
			t.Errorf("%s: where it was: %v, where it is: %v; want just the latter", way.backing, errA, errB)
		}
		disk.run("umount", after)
	}
}
