package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// syncTree makes the new tree in the folder root durable, which was opened before
// anything was written: syncfs(2) tells of errors since then.
func syncTree(root *os.File) error {
	var st unix.Statfs_t
	// The kernel does not pass syncfs(2) on to most file systems in user space.
	if unix.Fstatfs(int(root.Fd()), &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC {
		return syncEach(root.Name())
	}
	return os.NewSyscallError("syncfs", unix.Syncfs(int(root.Fd())))
}

// syncEach makes files and folders of a tree durable one by one. What its owner may
// not read can't be asked for.
func syncEach(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || d.Type().IsRegular()) {
			err = syncPath(path)
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	})
}

// syncPath makes the content of a file, or the names in a folder, durable.
func syncPath(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	// EINVAL: the file system keeps folders durable in its own way, fsync(2).
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// syncName makes the name path of the open file f durable. A folder in which this user may
// make files but not list them can't be opened to do so: all of its file system is synced.
func syncName(path string, f *os.File) error {
	err := syncPath(filepath.Dir(path))
	if errors.Is(err, fs.ErrPermission) {
		err = os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
	}
	return err
}
