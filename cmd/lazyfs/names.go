package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	lazyfs "lazyfs/fs"
	"lazyfs/store"
)

// suffix is what the name of a store ends in.
const suffix = ".lazy"

// storeName is the name of the store that holds the plain file name.
func storeName(name string) (string, error) {
	backing, ok := lazyfs.StoreName(name)
	if !ok {
		return "", fmt.Errorf("%s: name is too long to pack, and ends in %s already", name, suffix)
	}
	return backing, nil
}

// plainName is the name under which a mount shows the file at path, and whether
// it is a store there. A store NAME.lazy beside another file that is shown as NAME
// is shown as it is.
func plainName(path string) (name string, isStore bool, err error) {
	name = filepath.Base(path)
	plain, ok := lazyfs.PlainName(name)
	if !ok {
		return name, false, nil
	}
	if isStore, err = probe(path, true); !isStore || err != nil {
		return name, false, err
	}
	if plain != name {
		other := filepath.Join(filepath.Dir(path), plain)
		switch shown, _, err := plainName(other); {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", false, err
		case err == nil && shown == plain && exists(other):
			return name, false, nil
		}
	}
	return plain, true, nil
}

// probe says whether the file at path is a store, or Blank if that counts as one.
func probe(path string, blank bool) (bool, error) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	f, err := openNow(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = store.Probe(f)
	if errors.Is(err, store.ErrNotStore) {
		return blank && store.Blank(int(f.Fd())), nil
	}
	return err == nil, err
}

// openNow opens the file at path to read it. It does not wait for the writer of a named
// pipe, as open(2) does without O_NONBLOCK.
func openNow(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// sameFile says whether a and b are names of one file, or would be if they were made.
func sameFile(a, b string) bool {
	before, err := os.Stat(a)
	if err != nil {
		return filepath.Clean(a) == filepath.Clean(b)
	}
	after, err := os.Stat(b)
	return err == nil && os.SameFile(before, after)
}

// checkOther refuses dst as the name of what is to be made of the file src, which is info,
// where it leads to that file.
func checkOther(dst, src string, info fs.FileInfo) error {
	if old, err := os.Stat(dst); err == nil && os.SameFile(info, old) {
		return fmt.Errorf("%s: is the same file as %s", dst, src)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
