package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A listing numbers files as stat does, also below a file system that is mounted inside of
// the folder.
func TestListedNumbers(t *testing.T) {
	back := t.TempDir()
	inner := filepath.Join(back, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", inner, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(inner, unix.MNT_DETACH)
	d := mountRW(t, back)
	for _, dir := range []string{d.dir, d.path("inner")} {
		write(t, filepath.Join(dir, "f"), nil)
		folder, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := unix.ReadDirent(int(folder.Fd()), buf)
		if err = errors.Join(err, folder.Close()); err != nil {
			t.Fatal(err)
		}
		listed := map[string]uint64{}
		for rest := buf[:n]; len(rest) > 0; {
			var e fuse.DirEntry
			rest = rest[e.Parse(rest):]
			listed[e.Name] = e.Ino
		}
		for _, name := range []string{".", "f"} {
			fi, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if want := fi.Sys().(*syscall.Stat_t).Ino; listed[name] != want {
				t.Errorf("%s/%s is listed as inode %#x, want %#x", dir, name, listed[name], want)
			}
		}
	}
	d.umount()
}

// A folder that others put into one that lay in it is found there, also where so many
// folders are in use that both are closed meanwhile.
func TestFoldersTurnedRound(t *testing.T) {
	back := t.TempDir()
	const others = 50
	for i := range others {
		if err := os.MkdirAll(filepath.Join(back, "others", fmt.Sprint(i), "in"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(back, "out", "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	d := start(t, mountSpec{Source: back, Writable: true, Descriptors: 64})
	in, err := os.OpenFile(d.path("out", "in"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	fd := int(in.Fd())
	run(t, back, "sh", "-ec", "mv out/in in; mv out in/out")
	// The kernel refuses that: to its knowledge the one lies in the other.
	var st unix.Stat_t
	unix.Fstatat(fd, "out", &st, 0)
	for i := range others {
		names(t, d.path("others", fmt.Sprint(i), "in"))
	}
	if list, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		unix.ReadDirent(list, make([]byte, 4096)) // It may have to be looked up first.
		unix.Close(list)
	}
	until(t, "the folders are found where they are", func() bool {
		list, err := os.ReadDir(d.path("in", "out"))
		return err == nil && len(list) == 0
	})
	if got, want := names(t, d.path("in")), []string{"out"}; !slices.Equal(got, want) {
		t.Errorf("the folder shows %q, want %q", got, want)
	}
	in.Close()
	d.umount()
}

// A folder that is mounted in itself is refused there, and is as it was for who is in it.
func TestFolderInItself(t *testing.T) {
	back := t.TempDir()
	folder := filepath.Join(back, "folder")
	loop := filepath.Join(folder, "loop")
	if err := errors.Join(os.MkdirAll(loop, 0o755), os.Mkdir(filepath.Join(folder, "other"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(folder, loop, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(loop, unix.MNT_DETACH) })
	d := mountRW(t, back)
	in, err := os.OpenFile(d.path("folder"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, way := range []struct {
		name string
		want error
	}{{"other", unix.EEXIST}, {"loop", unix.ELOOP}, {"other", unix.EEXIST}} {
		made := make(chan error, 1)
		go func() { made <- unix.Mkdirat(int(in.Fd()), way.name, 0o755) }() // It always looks anew.
		select {
		case err := <-made:
			if err != way.want {
				t.Errorf("mkdir of %s: %v, want %v", way.name, err, way.want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("mkdir of %s does not return", way.name)
		}
	}
}

// A folder that is removed, or that another takes the place of, is there for who is in it,
// also where so many folders are in use that it was closed.
func TestRemovedFolder(t *testing.T) {
	back := t.TempDir()
	const others = 50
	for i := range others {
		if err := os.MkdirAll(filepath.Join(back, "others", fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d := start(t, mountSpec{Source: back, Writable: true, Descriptors: 64})
	for _, remove := range []func(string) error{
		os.Remove,
		func(path string) error { return unix.Rename(d.path("others", "0"), path) },
	} {
		path := d.path("folder")
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		stat := func() (st unix.Statx_t, err error) {
			err = unix.Statx(int(in.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
			return st, err
		}
		was, err := stat()
		for i := range others {
			names(t, d.path("others", fmt.Sprint(i)))
		}
		if err := errors.Join(err, remove(path)); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < others; i++ {
			names(t, d.path("others", fmt.Sprint(i)))
		}
		if is, err := stat(); err != nil || is.Ino != was.Ino || is.Nlink != 0 {
			t.Errorf("stat: inode %d with %d links, %v; want %d with none", is.Ino, is.Nlink, err, was.Ino)
		}
	}
}

// Where the folder of a file can't be opened, for want of descriptors say, nobody says that
// the file is gone, nor that its name is durable.
func TestNoDescriptorsForFolder(t *testing.T) {
	back := t.TempDir()
	const others = 50
	for i := range others {
		if err := os.MkdirAll(filepath.Join(back, "others", fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(back, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	pack(t, filepath.Join(back, "folder", "closed.lazy"), []byte("content"))
	d := start(t, mountSpec{Source: back, Writable: true, Descriptors: 64})
	f, err := os.Create(d.path("folder", "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	closed, err := unix.Open(d.path("folder", "closed"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(closed)
	for i := range others { // More than the mount keeps open.
		names(t, d.path("others", fmt.Sprint(i)))
	}
	var before unix.Rlimit
	pid := d.cmd.Process.Pid
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Max: 64}, &before); err != nil {
		t.Fatal(err)
	}
	stat := func() error {
		var st unix.Statx_t
		return unix.Statx(closed, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	}
	if err := stat(); err != unix.EMFILE {
		t.Errorf("stat: %v, want %v", err, unix.EMFILE)
	}
	for range 2 {
		if err := f.Sync(); !errors.Is(err, unix.EMFILE) {
			t.Errorf("fsync of a new file: %v, want %v", err, unix.EMFILE)
		}
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stat(), f.Sync()); err != nil {
		t.Errorf("with descriptors again: %v", err)
	}
}
