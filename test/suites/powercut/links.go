package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// linksSubjects change files that have several names, or none at first.
func linksSubjects(seed uint64) []*subject {
	f := func(v int) string { return fmt.Sprint("f", v) }
	p := newPages(seed, 16)
	folders := func(dir string) error {
		return errors.Join(os.Mkdir(filepath.Join(dir, "a"), 0o755), os.Mkdir(filepath.Join(dir, "b"), 0o755))
	}
	return []*subject{
		{name: "link", prepare: func(dir string) error { return writeWhole(0, true, dir, f(-1)) }, change: func(dir string, v int) error {
			if v > 0 {
				if err := os.Remove(filepath.Join(dir, f(v-1))); err != nil {
					return err
				}
			}
			return errors.Join(os.Link(filepath.Join(dir, f(-1)), filepath.Join(dir, f(v))), syncPath(dir, f(v)))
		}, find: func(found found, lo, hi int) error {
			if lo == hi {
				return readsWhole(found, f(lo), 0, 0)
			}
			return readsWhole(found, f(-1), 0, 0)
		}},
		// Written by the one name and synced by the other.
		{name: "link-other", prepare: func(dir string) error {
			return errors.Join(folders(dir), p.make(dir, "a", "f"), os.Link(filepath.Join(dir, "a", "f"), filepath.Join(dir, "b", "g")),
				syncPath(dir, "b", "g"), syncPath(dir, "a"), syncPath(dir, "b"))
		}, change: func(dir string, v int) error {
			err := withFile(filepath.Join(dir, "a", "f"), os.O_WRONLY, func(f *os.File) error { return p.writeTo(f, v) })
			return errors.Join(err, syncPath(dir, "b", "g"))
		}, find: func(f found, lo, hi int) error {
			return errors.Join(p.findIn(f, "a/f", lo, hi), p.findIn(f, "b/g", lo, hi))
		}},
		// Named in another folder and synced by the first name.
		{name: "link-folder", prepare: func(dir string) error {
			return errors.Join(folders(dir), writeWhole(0, true, dir, "a", "f"), syncPath(dir, "a"), syncPath(dir, "b"))
		}, change: func(dir string, v int) error {
			return errors.Join(os.Link(filepath.Join(dir, "a", "f"), filepath.Join(dir, "b", f(v))), syncPath(dir, "a", "f"))
		}, find: func(found found, lo, hi int) error {
			for v := range lo + 1 {
				if err := readsWhole(found, "b/"+f(v), 0, 0); err != nil {
					return err
				}
			}
			return readsWhole(found, "a/f", 0, 0)
		}},
		// Moved by a link, and synced by what is left.
		{name: "link-away", prepare: func(dir string) error {
			return errors.Join(folders(dir), writeWhole(0, true, dir, "a", "f"), syncPath(dir, "a"), syncPath(dir, "b"))
		}, change: func(dir string, v int) error {
			from, to := filepath.Join(dir, "a", "f"), filepath.Join(dir, "b", "f")
			if v%2 == 1 {
				from, to = to, from
			}
			return errors.Join(os.Link(from, to), os.Remove(from), syncPath(to))
		}, find: func(f found, lo, hi int) error {
			a, b := f.has("a/f"), f.has("b/f")
			if lo == hi && (a == b || b != (lo%2 == 0)) || !a && !b {
				return fmt.Errorf("in the one folder: %v, in the other: %v", a, b)
			}
			return nil
		}},
		{name: "tmpfile", change: func(dir string, v int) error {
			return withFile(dir, unix.O_TMPFILE|os.O_RDWR, func(file *os.File) error {
				if _, err := file.Write(whole(v)); err != nil {
					return err
				}
				return errors.Join(unix.Linkat(unix.AT_FDCWD, fmt.Sprint("/proc/self/fd/", file.Fd()), unix.AT_FDCWD,
					filepath.Join(dir, f(v)), unix.AT_SYMLINK_FOLLOW), file.Sync())
			})
		}, find: allOf(f)},
		{name: "symlink", change: func(dir string, v int) error {
			return errors.Join(os.Symlink(f(v), filepath.Join(dir, f(v))), syncPath(dir))
		}, find: func(found found, lo, hi int) error {
			for v := range lo + 1 {
				if to, err := os.Readlink(filepath.Join(found.dir, f(v))); err != nil || to != f(v) {
					return fmt.Errorf("%s leads to %q: %v", f(v), to, err)
				}
			}
			return nil
		}},
	}
}
