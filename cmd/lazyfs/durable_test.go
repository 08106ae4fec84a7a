package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file has its name only when its content, mode and times are durable: where the disk
// fails to keep them it has them, and no name.
func TestNewFileDurable(t *testing.T) {
	for _, tmpfile := range []bool{true, false} {
		folder := t.TempDir()
		old := filepath.Join(t.TempDir(), "old")
		hour := time.Now().Add(-time.Hour).Truncate(time.Second)
		if err := errors.Join(os.WriteFile(old, nil, 0o640), os.Chtimes(old, hour, hour)); err != nil {
			t.Fatal(err)
		}
		like, err := os.Stat(old)
		if err != nil {
			t.Fatal(err)
		}
		n, err := createFile(filepath.Join(folder, "x"), false)
		if err != nil {
			t.Fatal(err)
		}
		defer n.discard()
		if !tmpfile {
			withoutTmpfile(t, n)
		}
		onThread(t, func() error {
			if err := refuse(unix.SYS_FSYNC, unix.EIO); err != nil {
				return err
			}
			if err := n.finish(like); !errors.Is(err, unix.EIO) {
				t.Errorf("tmpfile %v: the file can't be synced: %v, want EIO", tmpfile, err)
			}
			return nil
		})
		if exists(n.path) {
			t.Errorf("tmpfile %v: a file that could not be synced has its name", tmpfile)
		}
		if info, err := n.Stat(); err != nil || info.Mode() != like.Mode() || !info.ModTime().Equal(hour) {
			t.Errorf("tmpfile %v: when the file is synced it has %v, %v (%v), want %v, %v", tmpfile, info.Mode(), info.ModTime(), err, like.Mode(), hour)
		}
	}
}

// A file is finished only when its name, too, is durable, also in a folder that its user
// may not list.
func TestNewFileNameDurable(t *testing.T) {
	for _, listed := range []bool{true, false} {
		folder := t.TempDir()
		if err := os.Chown(folder, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		call, mode := uint32(unix.SYS_FSYNC), os.FileMode(0o700)
		if !listed {
			call, mode = unix.SYS_SYNCFS, 0o300
		}
		if err := os.Chmod(folder, mode); err != nil {
			t.Fatal(err)
		}
		reachable(t, folder)
		onThread(t, func() error {
			if err := asNobody(); err != nil {
				return err
			}
			n, err := createFile(filepath.Join(folder, "x"), false)
			if err != nil {
				return err
			}
			defer n.discard()
			but := -1
			if listed {
				but = int(n.Fd())
			}
			if err := refuseBut(but, call, unix.EIO); err != nil {
				return err
			}
			if err := n.finish(nil); !errors.Is(err, unix.EIO) {
				t.Errorf("listed %v: the name can't be synced: %v, want EIO", listed, err)
			}
			return nil
		})
		if !exists(filepath.Join(folder, "x")) {
			t.Errorf("listed %v: the folder was synced before it had the name", listed)
		}
	}
}

// A new folder has its name only when all that is in it is durable, and is complete only
// when its name is, too.
func TestMirrorDurable(t *testing.T) {
	for _, c := range []struct {
		call uint32
		left []string
	}{
		{unix.SYS_SYNCFS, []string{"src"}},
		{unix.SYS_FSYNC, []string{"dst", "src"}}, // its parent's: that of the tree is not by files
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(dir+"/src/sub", 0o755); err != nil {
			t.Fatal(err)
		}
		listed, err := readTree(dir + "/src")
		if err != nil {
			t.Fatal(err)
		}
		onThread(t, func() error {
			if err := refuse(c.call, unix.EIO); err != nil {
				return err
			}
			m := mirror{src: dir + "/src", dst: dir + "/dst", jobs: 1}
			if err := m.run(t.Context(), listed); !errors.Is(err, unix.EIO) {
				t.Errorf("system call %d fails: %v, want EIO", c.call, err)
			}
			return nil
		})
		if got := names(t, dir); !slices.Equal(got, c.left) {
			t.Errorf("after system call %d failed there are %q, want %q", c.call, got, c.left)
		}
	}
}

// Where a tree is synced one by one, each file and each folder that can't be is an error,
// but for what its owner may not read.
func TestSyncEach(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/empty", 0o700), os.Mkdir(dir+"/sub", 0o700), os.WriteFile(dir+"/sub/x", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "/empty", "/sub", "/sub/x"} {
		if err := os.Chown(dir+path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	reachable(t, dir)
	onThread(t, func() error {
		if err := refuse(unix.SYS_FSYNC, unix.EIO); err != nil {
			return err
		}
		for _, root := range []string{dir + "/empty", dir + "/sub/x"} {
			if err := syncEach(root); !errors.Is(err, unix.EIO) {
				t.Errorf("%s can't be synced: %v, want EIO", root, err)
			}
		}
		return nil
	})
	for _, path := range []string{"/sub/x", "/sub", ""} {
		if err := os.Chmod(dir+path, 0); err != nil {
			t.Fatal(err)
		}
		onThread(t, func() error {
			if err := asNobody(); err != nil {
				return err
			}
			return syncEach(dir)
		})
	}
}

// A file system that has no sync for a folder keeps it durable in its own way.
func TestSyncPathOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	onThread(t, func() error {
		if err := refuse(unix.SYS_FSYNC, unix.EINVAL); err != nil {
			return err
		}
		return syncPath(dir)
	})
}
