package fs_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// On a full disk writes fail with ENOSPC, at once or from fsync or close, and what
// was acknowledged before, in this and in other files, stays as it was.
func TestDiskFull(t *testing.T) {
	back := t.TempDir()
	if err := unix.Mount("tmpfs", back, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(back, unix.MNT_DETACH) })
	d := mountRW(t, back)
	write(t, d.path("before"), text(1, 200_000))
	f, err := os.Create(d.path("big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 8<<20); err != unix.ENOSPC {
		t.Errorf("allocating twice the disk: %v, want %v", err, unix.ENOSPC)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 1<<20); err != nil {
		t.Errorf("allocating a quarter of the disk: %v", err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, 128<<10)
	acked := 0
	for err == nil && acked < 64 {
		for i := range block {
			block[i] = byte(r.Uint32())
		}
		if _, err = f.Write(block); err == nil {
			err = f.Sync()
		}
		if err == nil {
			acked++
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d blocks: %v, want %v", acked, err, syscall.ENOSPC)
	}
	if acked < 10 {
		t.Errorf("the disk is full after %d blocks", acked)
	}
	same(t, d.path("before"), text(1, 200_000))
	f.Close()
	if err := os.Remove(d.path("big")); err != nil {
		t.Fatal(err)
	}
	write(t, d.path("after"), text(2, 200_000))
	d.umount()
	d = mountRW(t, back)
	same(t, d.path("before"), text(1, 200_000))
	same(t, d.path("after"), text(2, 200_000))
	d.umount()
	checkAll(t, back)
}

// smallDisk is a folder on a disk of 64 MiB.
func smallDisk(t *testing.T) string {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill leaves room bytes on the disk of dir.
func fill(t *testing.T, dir string, room int64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other"), make([]byte, int64(st.Bavail)*st.Bsize-room), 0o600); err != nil {
		t.Fatal(err)
	}
}

// On a full disk pages can be punched one by one, however many, and the file emptied.
func TestPunchDiskFull(t *testing.T) {
	back := smallDisk(t)
	s, err := store.Create(filepath.Join(back, "x.lazy"), store.CreateOptions{FrameSize: 4096})
	if err == nil {
		_, err = s.WriteAt(text(1, 16<<20), 0)
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	fill(t, back, 128<<10)
	d := mountRW(t, back)
	f, err := os.OpenFile(d.path("x"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := text(1, 16<<20)
	for i := range 800 {
		off := int64(i%4)<<22 + int64(i/4)<<13
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, 4096); err != nil {
			t.Fatalf("punch number %d: %v", i, err)
		}
		clear(want[off : off+4096])
	}
	same(t, d.path("x"), want)
	if err := f.Truncate(0); err != nil {
		t.Error(err)
	}
	f.Close()
	d.umount()
	checkAll(t, back)
}

// A store that lies on a disk without any room, or next to none, can be punched and cut,
// in this order or the other, at any byte.
func TestShrinkDiskFull(t *testing.T) {
	for _, room := range []int64{0, 8 << 10} {
		for _, cutFirst := range []bool{false, true} {
			shrinkDiskFull(t, room, cutFirst)
		}
	}
}

func shrinkDiskFull(t *testing.T, room int64, cutFirst bool) {
	back := smallDisk(t)
	want := text(1, 16<<20)
	s, err := store.Create(filepath.Join(back, "x.lazy"), store.CreateOptions{})
	if err == nil {
		_, err = s.WriteAt(want, 0)
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	fill(t, back, room)
	d := mountRW(t, back)
	f, err := os.OpenFile(d.path("x"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cut := func() error {
		want = want[:15<<20+7]
		return f.Truncate(int64(len(want)))
	}
	punch := func() error {
		clear(want[1000:][:1<<20])
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1000, 1<<20)
	}
	acts := []func() error{punch, cut}
	if cutFirst {
		slices.Reverse(acts)
	}
	for i, act := range append(acts, f.Sync) {
		if err := act(); err != nil {
			t.Errorf("room for %d, cut first %t: act %d: %v", room, cutFirst, i, err)
		}
	}
	same(t, d.path("x"), want)
	f.Close()
	d.umount()
	checkAll(t, back)
}

// Where the disk has room for a part of what the kernel hands over of a plain file, fsync
// or close tells that the rest is lost.
func TestPlainDiskFull(t *testing.T) {
	back := smallDisk(t)
	write(t, filepath.Join(back, "f"), nil)
	fill(t, back, 100<<10)
	d := mountRW(t, back)
	f, err := os.OpenFile(d.path("f"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(noise(200 << 10))
	if err = errors.Join(err, f.Close()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing twice what the disk has room for: %v, want %v", err, syscall.ENOSPC)
	}
}

// Who closes a file learns that the disk was full for what he has written, also when the
// kernel has told that to somebody who has just read the file.
func TestCloseTellsWriter(t *testing.T) {
	for _, kind := range []string{"store", "plain"} {
		back := smallDisk(t)
		if kind == "plain" {
			write(t, filepath.Join(back, "f"), nil)
		}
		fill(t, back, 4<<20)
		d := mountRW(t, back)
		f, err := os.OpenFile(d.path("f"), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(noise(8 << 20)); err != nil {
			t.Fatal(err)
		}
		unix.Syncfs(int(f.Fd())) // The kernel hands over as it does after half a minute.
		other, err := os.Open(d.path("f"))
		if err != nil {
			t.Fatal(err)
		}
		other.Close()
		// Who opens it now for writing has written nothing.
		if other, err = os.OpenFile(d.path("f"), os.O_WRONLY, 0); err == nil {
			err = other.Close()
		}
		if err != nil {
			t.Errorf("%s: who writes nothing: %v", kind, err)
		}
		if err := f.Close(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: closing what the disk has no room for: %v, want %v", kind, err, syscall.ENOSPC)
		}
	}
}

// Who waits for the end of a mount learns of what the disk had no room for and nobody was
// told of: what was written to a mapping of a file that was closed, or is open at the end.
// He does not where it was told, or the file has been removed.
func TestEndTellsLoss(t *testing.T) {
	for _, kind := range []string{"store", "plain"} {
		t.Run(kind, func(t *testing.T) { endTellsLoss(t, kind) })
	}
}

func endTellsLoss(t *testing.T, kind string) {
	detach := func(d *daemon) error { return unix.Unmount(d.dir, unix.MNT_DETACH) }
	for _, way := range []struct {
		name string
		lose func(*daemon, *os.File) error
		want bool // that it is told
	}{
		{"closed", func(d *daemon, f *os.File) error {
			reader, err := os.Open(f.Name())
			if err != nil {
				return err
			}
			if _, err := f.Write(noise(8 << 20)); err != nil {
				return err
			}
			if err := f.Close(); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("close: %v, want %v", err, unix.ENOSPC)
			}
			if err := reader.Close(); err != nil {
				return err
			}
			// What the daemon has not read when the mount is gone it never learns, RELEASE
			// neither. It is read before this.
			var st unix.Statx_t
			err = unix.Statx(unix.AT_FDCWD, f.Name(), unix.AT_STATX_FORCE_SYNC, unix.STATX_SIZE, &st)
			return errors.Join(err, detach(d))
		}, false},
		{"mapped", func(d *daemon, f *os.File) error { return errors.Join(loseMapped(f), detach(d)) }, true},
		{"removed", func(d *daemon, f *os.File) error {
			return errors.Join(os.Remove(f.Name()), loseMapped(f), detach(d))
		}, false},
		{"open", func(d *daemon, f *os.File) error {
			_, err := f.Write(noise(8 << 20))
			return errors.Join(err, d.cmd.Process.Signal(syscall.SIGTERM))
		}, true},
	} {
		back := smallDisk(t)
		if kind == "plain" {
			write(t, filepath.Join(back, "f"), nil)
		}
		fill(t, back, 4<<20)
		d := mountRW(t, back)
		f, err := os.OpenFile(d.path("f"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := way.lose(d, f); err != nil {
			t.Fatalf("%s: %v", way.name, err)
		}
		if err := <-d.done; (err != nil) != way.want {
			t.Errorf("%s: the mount ends with %v: %s", way.name, err, d.log)
		}
	}
}

// loseMapped closes f and has a process of its own do fillMapped with it: while that waits for
// the mount its memory is locked, and what the daemon says could not be read.
func loseMapped(f *os.File) error {
	path, err := os.OpenFile(fmt.Sprint("/proc/self/fd/", f.Fd()), unix.O_PATH, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	defer path.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), mapEnv+"=/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{path}
	return cmd.Run()
}

// fillMapped writes 8 MiB that don't compress to a mapping of the file at path, to which it
// gives that size, after it has closed that.
func fillMapped(path string) error {
	const size = 8 << 20
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != size {
		err = f.Truncate(size)
	}
	if err != nil {
		return err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	copy(mem, noise(size))
	return unix.Munmap(mem)
}
