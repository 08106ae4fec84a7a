package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// attributesSubjects change modes and extended attributes.
func attributesSubjects() []*subject {
	file := func(dir string) error { return writeWhole(9, true, dir, "f") }
	return []*subject{
		{name: "attributes", prepare: file, change: func(dir string, v int) error {
			return withFile(filepath.Join(dir, "f"), os.O_RDWR, func(f *os.File) error {
				return errors.Join(f.Chmod(mode(v)), unix.Fsetxattr(int(f.Fd()), attribute, fmt.Append(nil, v), 0), f.Sync())
			})
		}, find: func(f found, lo, hi int) error { return hasAttributes(f.path("f"), lo, hi) }},
		{name: "attributes-path", prepare: file, change: func(dir string, v int) error {
			if err := setAttributes(filepath.Join(dir, "f"), v); err != nil {
				return err
			}
			return syncPath(dir, "f")
		}, find: func(f found, lo, hi int) error { return hasAttributes(f.path("f"), lo, hi) }},
		// With the bytes that go with it.
		{name: "attributes-bytes", prepare: file, change: func(dir string, v int) error {
			if err := setAttributes(filepath.Join(dir, "f"), v); err != nil {
				return err
			}
			return writeWhole(v, true, dir, "f")
		}, find: func(f found, lo, hi int) error {
			if lo == hi && lo >= 0 {
				return errors.Join(readsWhole(f, "f", lo, lo), hasAttributes(f.path("f"), lo, lo))
			}
			return hasAttributes(f.path("f"), lo, hi)
		}},
		{name: "attributes-folder", prepare: func(dir string) error { return os.Mkdir(filepath.Join(dir, "d"), 0o755) },
			change: func(dir string, v int) error {
				if err := setAttributes(filepath.Join(dir, "d"), v); err != nil {
					return err
				}
				return syncPath(dir, "d")
			}, find: func(f found, lo, hi int) error { return hasAttributes(filepath.Join(f.dir, "d"), lo, hi) }},
	}
}

const attribute = "user.version"

func mode(v int) os.FileMode { return os.FileMode(0o400 + v%0o400) }

func setAttributes(path string, v int) error {
	return errors.Join(os.Chmod(path, mode(v)), unix.Setxattr(path, attribute, fmt.Append(nil, v), 0))
}

// hasAttributes says whether what is at path has the attributes of versions from lo to hi.
func hasAttributes(path string, lo, hi int) error {
	if lo < 0 {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	var b [20]byte
	n, err := unix.Getxattr(path, attribute, b[:])
	if err != nil {
		return err
	}
	modeOK, attrOK := false, false
	for v := lo; v <= hi; v++ {
		modeOK = modeOK || info.Mode().Perm() == mode(v)
		attrOK = attrOK || string(b[:n]) == fmt.Sprint(v)
	}
	if !modeOK || !attrOK {
		return fmt.Errorf("mode %v, attribute %s", info.Mode(), b[:n])
	}
	return nil
}
