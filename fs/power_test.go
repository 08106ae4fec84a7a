package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
	"lazyfs/test/disktest"
)

// What was asked of an inode before its fsync is there after a power cut: not just the
// bytes, but mode, owner, times and extended attributes, too.
func TestFsyncKeepsInode(t *testing.T) {
	disk := disktest.New(t)
	write(t, filepath.Join(disk.Dir, "plain"), nil)
	d := mountRW(t, disk.Dir)
	for _, name := range []string{"f", "plain"} {
		write(t, d.path(name), text(1, 50_000))
		f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fd, past := int(f.Fd()), time.Unix(1e9, 5000)
		err = errors.Join(f.Sync(), unix.Fchmod(fd, 0o4751), unix.Fchown(fd, 7, 8), unix.Fchmod(fd, 0o640),
			unix.Fsetxattr(fd, "user.color", []byte("blue"), 0), f.Sync(), os.Chtimes(d.path(name), time.Time{}, past), f.Sync())
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(disk.Cut(), name)
		if name == "f" {
			path += ".lazy"
			if got := unpack(t, path); !bytes.Equal(got, text(1, 50_000)) {
				t.Errorf("the store differs at %#x", firstDiff(got, text(1, 50_000)))
			}
		} else {
			same(t, path, text(1, 50_000))
		}
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := fi.Sys().(*syscall.Stat_t)
		if fi.Mode() != 0o640 || st.Uid != 7 || st.Gid != 8 || !fi.ModTime().Equal(past) {
			t.Errorf("%s: %v of %d:%d, changed %v; want %v of 7:8, changed %v", name, fi.Mode(), st.Uid, st.Gid, fi.ModTime(), os.FileMode(0o640), past)
		}
		color := make([]byte, 10)
		if n, err := unix.Getxattr(path, "user.color", color); string(color[:max(n, 0)]) != "blue" {
			t.Errorf("%s: user.color is %q, %v", name, color[:max(n, 0)], err)
		}
	}
}

// That holds also when the file has been closed since, for which the daemon writes to it.
func TestClosingKeepsInode(t *testing.T) {
	disk := disktest.New(t)
	d := mountRW(t, disk.Dir)
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	past := time.Unix(1e9, 5000)
	_, err = f.Write(text(1, 50_000))
	err = errors.Join(err, f.Sync(), os.Chtimes(f.Name(), time.Time{}, past),
		unix.Setxattr(f.Name(), "security.capability", netRaw(), 0), f.Sync(), f.Close())
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the store is closed", func() bool { return d.counters().Files == 0 })
	path := filepath.Join(disk.Cut(), "f.lazy")
	if got := mtimeOf(t, path); !got.Equal(past) {
		t.Errorf("the file was changed %v, and a user said %v", got, past)
	}
	if !hasCapability(t, path) {
		t.Error("the file has no capabilities")
	}
}

// Each change of an inode is kept by the fsync that follows, also when nothing else was changed.
func TestFsyncKeepsEachChange(t *testing.T) {
	disk := disktest.New(t)
	d := start(t, mountSpec{Source: disk.Dir, Writable: true, SyncAfter: time.Hour})
	write(t, d.path("f"), text(1, 50_000))
	f, err := os.Open(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(unix.Setxattr(d.path("f"), "user.old", []byte("old"), 0), f.Sync()); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	for _, way := range []struct {
		name string
		do   func(path string) error
		kept func(path string) bool
	}{
		{"chmod", func(path string) error { return os.Chmod(path, 0o640) },
			func(path string) bool { return unix.Stat(path, &st) == nil && st.Mode&0o777 == 0o640 }},
		{"chown", func(path string) error { return os.Chown(path, 7, 8) },
			func(path string) bool { return unix.Stat(path, &st) == nil && st.Uid == 7 && st.Gid == 8 }},
		{"utimes", func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1e9, 0)) },
			func(path string) bool { return unix.Stat(path, &st) == nil && st.Mtim.Sec == 1e9 }},
		{"setxattr", func(path string) error { return unix.Setxattr(path, "user.new", []byte("new"), 0) },
			func(path string) bool { n, err := unix.Getxattr(path, "user.new", nil); return n == 3 && err == nil }},
		{"removexattr", func(path string) error { return unix.Removexattr(path, "user.old") },
			func(path string) bool { _, err := unix.Getxattr(path, "user.old", nil); return err == unix.ENODATA }},
	} {
		if err := errors.Join(way.do(d.path("f")), f.Sync()); err != nil {
			t.Fatal(err)
		}
		if path := filepath.Join(disk.Cut(), "f.lazy"); !way.kept(path) {
			t.Errorf("what %s changed is gone after an fsync and a power cut", way.name)
		}
	}
}

// An fsync of a folder makes its names durable, new ones and those that are gone, and what
// was asked of the folder itself.
func TestFsyncFolderKeepsNames(t *testing.T) {
	disk := disktest.New(t)
	d := start(t, mountSpec{Source: disk.Dir, Writable: true, SyncAfter: time.Hour})
	if err := os.Mkdir(d.path("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gone", "old"} {
		write(t, d.path("dir/"+name), text(1, 50_000))
	}
	unix.Sync()
	dir, err := os.Open(d.path("dir"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	err = errors.Join(os.Remove(d.path("dir/gone")), os.Rename(d.path("dir/old"), d.path("dir/new")), os.Mkdir(d.path("dir/sub"), 0o700),
		os.Symlink("new", d.path("dir/link")), os.Link(d.path("dir/new"), d.path("dir/other")), dir.Chmod(0o710), dir.Sync())
	if err != nil {
		t.Fatal(err)
	}
	after := filepath.Join(disk.Cut(), "dir")
	list, err := os.ReadDir(after)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if got, want := fmt.Sprint(names), "[link new.lazy other.lazy sub]"; got != want {
		t.Errorf("the folder has %v, want %v", got, want)
	}
	if fi, err := os.Stat(after); err != nil || fi.Mode() != os.ModeDir|0o710 {
		t.Errorf("the folder has %v, %v; want mode %v", fi, err, os.ModeDir|0o710)
	}
}

// Capabilities are there after a power cut also when somebody has written to a mapping of
// the file, and closed or synced it since.
func TestMappedKeepsCapability(t *testing.T) {
	disk := disktest.New(t)
	path := filepath.Join(disk.Dir, "f.lazy")
	pack(t, path, text(1, 50_000))
	if err := unix.Setxattr(path, "security.capability", netRaw(), 0); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	d := start(t, mountSpec{Source: disk.Dir, Writable: true, SyncAfter: 50 * time.Millisecond})
	for _, act := range []string{"close", "fsync"} {
		f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeMapped(int(f.Fd()), 0, 'x'); err != nil {
			t.Fatal(err)
		}
		if act == "fsync" {
			err = f.Sync()
		} else if err = f.Close(); err == nil {
			until(t, "the store is closed", func() bool { return d.counters().Files == 0 })
		}
		if err != nil {
			t.Fatal(err)
		}
		if !hasCapability(t, filepath.Join(disk.Cut(), "f.lazy")) {
			t.Errorf("after %s and a power cut the file has no capabilities", act)
		}
		f.Close()
	}
}

// A set-user-ID bit that a change of the content takes away does not come back by a power
// cut after the fsync of that change.
func TestFsyncKeepsBitsAway(t *testing.T) {
	disk := disktest.New(t)
	d := start(t, mountSpec{Source: disk.Dir, Writable: true, AllowOther: true, SyncAfter: time.Hour})
	openUp(t, d.dir)
	for name, change := range map[string]string{
		"written": "echo new 1<>written",
		"cut":     "truncate -s 10000 cut",
		"punched": "fallocate --punch-hole --length 8192 punched",
	} {
		f, err := os.Create(d.path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Chmod(0o777 | os.ModeSetuid); err != nil {
			t.Fatal(err)
		}
		// Where it has blocks that are written to again, fdatasync(2) keeps no mode.
		for i := range uint64(20) {
			if _, err := f.WriteAt(text(i, 20_000), 0); err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		unix.Sync()
		as(t, 1234, 1234, d.dir, change+"; sync "+name)
		fi, err := os.Stat(filepath.Join(disk.Cut(), name+".lazy"))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != 0o777 {
			t.Errorf("%s: %v, want %v", name, fi.Mode(), os.FileMode(0o777))
		}
	}
}

// When the end of a mount has been waited for, everything is there after a power cut:
// also names, attributes, and files that are no stores.
func TestUnmountKeepsAll(t *testing.T) {
	disk := disktest.New(t)
	for _, name := range []string{"plain", "old", "mode"} {
		if err := os.WriteFile(filepath.Join(disk.Dir, name), []byte("as it was"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	unix.Sync()
	d := mountRW(t, disk.Dir)
	plain, err := os.OpenFile(d.path("plain"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = plain.WriteString(", and more")
	err = errors.Join(err, plain.Close(), os.Rename(d.path("old"), d.path("new")), os.Mkdir(d.path("dir"), 0o755),
		os.Symlink("plain", d.path("link")), os.Chmod(d.path("mode"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	d.umount()
	dir := disk.Cut()
	for _, name := range []string{"new", "dir", "link"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "old")); err == nil {
		t.Error("what was renamed has its old name")
	}
	if fi, err := os.Lstat(filepath.Join(dir, "mode")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("after chmod: %v, %v", fi, err)
	}
	same(t, filepath.Join(dir, "plain"), []byte("as it was, and more"))
}

// When the disk of the stores fails after a file has been closed, nobody is there to be
// told. The next fsync is, and who waits for the end of the mount.
func TestLateFailureIsTold(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 3 * time.Second, 9 * time.Second} {
		if lateFailure(t, after) {
			return
		}
	}
	t.Error("close waits for the disk")
}

// lateFailure returns false where the sync after that time came before the close, which
// then told of the failure.
func lateFailure(t *testing.T, after time.Duration) bool {
	folder := smallDisk(t)
	disk := disktest.NewWith(t, folder, "^has_journal", "") // A journal without room makes all read-only.
	d := start(t, mountSpec{Source: disk.Dir, Writable: true, SyncAfter: after})
	fill(t, folder, 0)
	err := os.WriteFile(d.path("big"), noise(1<<20), 0o644)
	if errors.Is(err, unix.ENOSPC) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the daemon has logged the failure", func() bool { return strings.Contains(d.log.String(), "/big.lazy: ") })
	until(t, "the store is closed", func() bool { return unlocked(filepath.Join(disk.Dir, "big.lazy")) })
	// Who only looks does not take the failure away.
	if err := unix.Access(d.path("big"), unix.R_OK); err != nil {
		t.Fatal(err)
	}
	times(t, d.path("big"))
	if err := os.Chmod(d.path("big"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(d.path("big"))
	if err != nil {
		t.Fatal(err)
	}
	if f.Sync() == nil {
		t.Error("fsync of a file that could not be synced says nothing")
	}
	// What is lost stays lost when the disk has room again.
	if err := errors.Join(f.Close(), os.Remove(filepath.Join(folder, "other"))); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(d.dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-d.done; err == nil {
		t.Error("the mount ends as if all were durable")
	}
	for line := range strings.Lines(d.log.String()) {
		if !strings.Contains(line, disk.Dir) {
			t.Errorf("the daemon says %q, and not of what", line)
		}
	}
	return true
}

// unlocked tells whether nobody has the store at path open for writing.
func unlocked(path string) bool {
	s, err := store.Open(path, store.Options{Writable: true})
	if err == nil {
		s.Discard()
	}
	return !errors.Is(err, store.ErrLocked)
}

// noise returns n bytes that don't compress.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}
