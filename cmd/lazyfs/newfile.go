package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// umask is the user's (umask(2)). The process has none, so that what it makes for itself
// has the mode that is asked for: a user's mask may deny the owner everything.
var umask = unix.Umask(0)

// A newFile is a file that gets its name when it is complete, so that nobody
// ever sees half of it, and an interruption leaves nothing.
type newFile struct {
	*os.File
	path  string // the name it will have
	temp  string // the name it has meanwhile; "" when none
	force bool   // a file that has the name already is replaced
}

// createFile opens an empty file that finish will name path. Without force it
// refuses a path that exists. The caller calls discard in the end.
func createFile(path string, force bool) (*newFile, error) {
	path, err := newPath(path, force)
	if err != nil {
		return nil, err
	}
	n := &newFile{path: path, force: force}
	folder := filepath.Dir(path)
	fd, err := unix.Open(folder, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		n.File = os.NewFile(uintptr(fd), path)
		return n, nil
	}
	// open(2): these say that the kernel or the file system has no O_TMPFILE.
	if err != unix.EOPNOTSUPP && err != unix.EISDIR && err != unix.EINVAL {
		return nil, &fs.PathError{Op: "create in", Path: folder, Err: err}
	}
	n.temp = tempName(path)
	n.File, err = os.OpenFile(n.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return n, err
}

// newPath is where a new file called path lies: in place of the file that has the name, or
// to which a symbolic link of that name leads, which stays. Without force there may be
// neither.
func newPath(path string, force bool) (string, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case err != nil:
		return "", err
	case !force && info.Mode().Type()&^fs.ModeSymlink == 0: // a regular file, or a link
		return "", fmt.Errorf("%s: exists: --force replaces it", path)
	case info.Mode()&fs.ModeSymlink != 0:
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", err
		}
		if info, err = os.Stat(path); err != nil {
			return "", err
		}
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file: it can't be replaced", path)
	}
	return path, nil
}

// createOutput opens an empty file that finish will name path, in place of one that
// has the name, but not of a store, which may stand behind a flag by mistake.
func createOutput(path string) (*newFile, error) {
	switch isStore, err := probe(realPath(path), false); {
	case isStore:
		return nil, fmt.Errorf("%s: is a store: it is not replaced", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return createFile(path, true)
}

// finish gives the file the mode, times and owner of like, or, when like is nil,
// what a new file has; makes it durable; and names it.
func (n *newFile) finish(like fs.FileInfo) error {
	if like == nil {
		if err := n.Chmod(fs.FileMode(0o666 &^ umask)); err != nil {
			return err
		}
	} else if err := keepMeta(fdPath(n.File), like); err != nil {
		return fmt.Errorf("%s: %w", n.path, err)
	}
	if err := n.Sync(); err != nil {
		return err
	}
	if err := n.link(); err != nil {
		return fmt.Errorf("%s: %w", n.path, err)
	}
	return syncName(n.path, n.File)
}

// link gives the file its name.
func (n *newFile) link() error {
	if n.temp == "" {
		err := linkOpen(n.File, n.path)
		if err != unix.EEXIST {
			return err
		}
		n.temp = tempName(n.path)
		if err := linkOpen(n.File, n.temp); err != nil {
			n.temp = ""
			return err
		}
	}
	rename := renameNew
	if n.force {
		rename = os.Rename
	}
	if err := rename(n.temp, n.path); err != nil {
		return err
	}
	n.temp = ""
	return nil
}

// discard closes the file; without a successful finish nothing remains of it.
func (n *newFile) discard() {
	if n.temp != "" {
		os.Remove(n.temp)
	}
	n.Close()
}

// linkOpen names a file that was opened without a name. open(2) under
// O_TMPFILE gives this way, which needs no privilege.
func linkOpen(f *os.File, path string) error {
	return unix.Linkat(unix.AT_FDCWD, fdPath(f), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
}

// fdPath is a path to an open file, with or without a name.
func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// renameNew renames a file or folder and fails with EEXIST when the new name
// is taken.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL {
		return err
	}
	// The file system has no flags for rename.
	if _, err := os.Lstat(to); err == nil {
		return unix.EEXIST
	}
	return os.Rename(from, to)
}

// tempName is an unused name in the folder of path.
func tempName(path string) string {
	return filepath.Join(filepath.Dir(path), ".lazyfs-"+rand.Text()[:12]+".tmp")
}
