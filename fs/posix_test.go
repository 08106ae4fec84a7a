package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"
)

// go-fuse's collection of promises that a POSIX file system keeps.
func TestPosix(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		if name == "FcntlFlockLocksFile" {
			continue // Wants locks of one process to conflict, which fcntl(2) rules out.
		}
		t.Run(name, func(t *testing.T) {
			d := mountRW(t, t.TempDir())
			posixtest.All[name](t, d.dir)
		})
	}
}

// Hard links show one file: what is written through one name is read through the
// other at once, and either name may go.
func TestHardLinks(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	a, b := d.path("a"), d.path("b")
	f, err := os.Create(a)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Link(a, b); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(text(1, 70_000)); err != nil {
		t.Fatal(err)
	}
	same(t, b, text(1, 70_000))
	ai, _ := os.Stat(a)
	bi, _ := os.Stat(b)
	if !os.SameFile(ai, bi) || ai.Sys().(*syscall.Stat_t).Nlink != 2 {
		t.Error("the names are not two links of one file")
	}
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	want := text(1, 70_000)
	copy(want, "new")
	same(t, b, want)
	d.umount()
	if got := unpack(t, filepath.Join(back, "b.lazy")); !bytes.Equal(got, want) {
		t.Error("the store differs")
	}
}

// A file that is unlinked, or renamed over, while open works on, and leaves nothing
// behind.
func TestUnlinkedOpen(t *testing.T) {
	for _, how := range []string{"unlink", "rename over"} {
		t.Run(how, func(t *testing.T) {
			back := t.TempDir()
			d := mountRW(t, back)
			f, err := os.OpenFile(d.path("f"), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			f.Write(text(1, 30_000))
			if how == "unlink" {
				err = os.Remove(d.path("f"))
			} else {
				write(t, d.path("g"), []byte("g"))
				err = os.Rename(d.path("g"), d.path("f"))
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(text(2, 50_000), 10_000); err != nil {
				t.Error(err)
			}
			if err := f.Truncate(55_000); err != nil {
				t.Error(err)
			}
			if err := f.Chmod(0o640); err != nil {
				t.Error(err)
			}
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
			got := make([]byte, 60_000)
			n, err := f.ReadAt(got, 0)
			want := append(text(1, 10_000), text(2, 45_000)...)
			if err != io.EOF || !bytes.Equal(got[:n], want) {
				t.Errorf("read %d bytes, %v, want %d", n, err, len(want))
			}
			st, err := f.Stat()
			if err != nil || st.Size() != 55_000 || st.Mode() != 0o640 {
				t.Errorf("stat: %v, %v", st, err)
			}
			f.Close()
			d.umount()
			if how == "unlink" && len(names(t, back)) != 0 {
				t.Errorf("left behind: %q", names(t, back))
			}
		})
	}
}

// A file that a program has found can be opened, and changed, though its last name
// goes before it does.
func TestUnlinkedBeforeOpen(t *testing.T) {
	d := mountRW(t, t.TempDir())
	write(t, d.path("f"), text(1, 20_000))
	found, err := unix.Open(d.path("f"), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(found)
	if err := os.Remove(d.path("f")); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", found)
	same(t, path, text(1, 20_000))
	if err := os.Truncate(path, 10_000); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Error(err)
	}
	same(t, path, text(1, 10_000))
}

// The same holds where the serving process has no descriptor left when the name goes, but
// those of folders.
func TestUnlinkedWithoutDescriptors(t *testing.T) {
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, Descriptors: 160, SyncAfter: time.Hour})
	var found []int
	for i := range 8 { // A few descriptors may be left for the first. These are no stores, which have some.
		name := fmt.Sprint("found", i)
		write(t, filepath.Join(back, name), text(1, 20_000))
		fd, err := unix.Open(d.path(name), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		found = append(found, fd)
		if err := os.Mkdir(d.path(fmt.Sprint("folder", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var open []*os.File
	for i := range 200 {
		f, err := os.Create(d.path(fmt.Sprint("open", i)))
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	if len(open) == 200 {
		t.Fatal("the descriptors do not run out")
	}
	for i := range found {
		if err := os.Remove(d.path(fmt.Sprint("found", i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range open {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	until(t, "the files are closed", func() bool { return d.counters().Handles == 0 })
	for _, fd := range found {
		same(t, fmt.Sprintf("/proc/self/fd/%d", fd), text(1, 20_000))
	}
}

// A file made without a name by O_TMPFILE is given one by linkat(2), with what was
// written before and after.
func TestTmpfile(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	fd, err := unix.Open(d.dir, unix.O_TMPFILE|unix.O_RDWR, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "tmpfile")
	defer f.Close()
	if _, err := f.Write(text(1, 50_000)); err != nil {
		t.Fatal(err)
	}
	if got := names(t, back); len(got) != 0 {
		t.Errorf("backing folder shows %q", got)
	}
	same(t, fmt.Sprintf("/proc/self/fd/%d", fd), text(1, 50_000))
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, d.path("f"), unix.AT_SYMLINK_FOLLOW); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("late"), 1000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	want := text(1, 50_000)
	copy(want[1000:], "late")
	same(t, d.path("f"), want)
	d.umount()
	if got := unpack(t, filepath.Join(back, "f.lazy")); !bytes.Equal(got, want) {
		t.Error("the store differs")
	}
}

// Appends through two handles never overwrite each other.
func TestAppend(t *testing.T) {
	d := mountRW(t, t.TempDir())
	const writers, lines = 4, 200
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			f, err := os.OpenFile(d.path("log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for i := range lines {
				if _, err := fmt.Fprintf(f, "%d %04d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	got, err := os.ReadFile(d.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.SplitAfter(got, []byte("\n"))
	next := [writers]int{}
	for _, line := range all[:len(all)-1] {
		var w, i int
		if _, err := fmt.Sscanf(string(line), "%d %04d\n", &w, &i); err != nil || next[w] != i {
			t.Fatalf("line %q out of order", line)
		}
		next[w]++
	}
	if len(all)-1 != writers*lines {
		t.Errorf("%d lines, want %d", len(all)-1, writers*lines)
	}
}

// Data and holes are found where they are, st_blocks tells what is stored, and a
// punched hole gives its space back.
func TestHoles(t *testing.T) {
	d := mountRW(t, t.TempDir())
	f, err := os.Create(d.path("sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const mib = 1 << 20
	if err := f.Truncate(64 * mib); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(text(1, mib), 8*mib); err != nil {
		t.Fatal(err)
	}
	seek := func(off int64, whence int, want int64) {
		t.Helper()
		if got, err := unix.Seek(int(f.Fd()), off, whence); err != nil || got != want {
			t.Errorf("lseek(%#x, %d): %#x, %v, want %#x", off, whence, got, err, want)
		}
	}
	seek(0, unix.SEEK_HOLE, 0)
	seek(0, unix.SEEK_DATA, 8*mib)
	seek(8*mib, unix.SEEK_HOLE, 9*mib)
	if _, err := unix.Seek(int(f.Fd()), 9*mib, unix.SEEK_DATA); err != unix.ENXIO {
		t.Errorf("SEEK_DATA past the last: %v, want %v", err, unix.ENXIO)
	}
	f.Sync()
	blocks := func() int64 {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	// An open store has some room reserved.
	if b := blocks(); b == 0 || b > 2*mib {
		t.Errorf("%d bytes stored for 1 MiB of text in 64 MiB", b)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 8*mib, mib); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); err != unix.ENXIO {
		t.Errorf("SEEK_DATA with nothing left: %v, want %v", err, unix.ENXIO)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096); err != unix.EOPNOTSUPP {
		t.Errorf("FALLOC_FL_COLLAPSE_RANGE: %v, want %v", err, unix.EOPNOTSUPP)
	}
}

// A mount of one store shows one file, which a read-write mount can change. It may lie beside
// the store.
func TestSingleStore(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "image.lazy")
	pack(t, path, text(1, 300_000))
	beside := filepath.Join(back, "mnt")
	if err := os.Mkdir(beside, 0o755); err != nil {
		t.Fatal(err)
	}
	d := start(t, mountSpec{Source: path, Dir: beside})
	if got := names(t, d.dir); len(got) != 1 || got[0] != "image" {
		t.Errorf("mount shows %q, want image", got)
	}
	same(t, d.path("image"), text(1, 300_000))
	if err := os.WriteFile(d.path("image"), nil, 0); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write on a read-only mount: %v, want %v", err, syscall.EROFS)
	}
	d.umount()
	d = mountRW(t, path)
	f, err := os.OpenFile(d.path("image"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("changed"), 100_000)
	f.Close()
	for name, err := range map[string]error{
		"create": os.WriteFile(d.path("new"), nil, 0o644),
		"remove": os.Remove(d.path("image")),
		"mkdir":  os.Mkdir(d.path("dir"), 0o755),
		"rename": os.Rename(d.path("image"), d.path("other")),
		"chmod":  os.Chmod(d.dir, 0o700),
	} {
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("%s: %v, want %v", name, err, syscall.EPERM)
		}
	}
	d.umount()
	want := text(1, 300_000)
	copy(want[100_000:], "changed")
	if got := unpack(t, path); !bytes.Equal(got, want) {
		t.Error("the store differs")
	}
}

// A folder can't be mounted inside of itself, also where a symbolic link leads there.
func TestMountInside(t *testing.T) {
	back, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	dir := filepath.Join(back, "a", "b")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Symlink(dir, link)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for _, place := range []string{dir, link} {
		out, err := runDaemon(mountSpec{Source: back, Dir: place})
		if err == nil || !bytes.Contains(out, []byte("inside")) {
			t.Errorf("mount at %s: %v: %s", place, err, out)
		}
	}
}
