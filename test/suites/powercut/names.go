package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// namesSubjects change names.
func namesSubjects() []*subject {
	f := func(v int) string { return fmt.Sprint("f", v) }
	cur := func(f found, lo, hi int) error { return readsWhole(f, "cur", lo, hi) }
	first := func(dir string) error { return writeWhole(0, true, dir, f(-1)) }
	replace := func(sync bool, then ...string) func(dir string, v int) error {
		return func(dir string, v int) error {
			if err := writeWhole(v, sync, dir, "tmp"); err != nil {
				return err
			}
			if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "cur")); err != nil || then == nil {
				return err
			}
			return syncPath(append([]string{dir}, then...)...)
		}
	}
	return []*subject{
		{name: "create", change: func(dir string, v int) error { return writeWhole(v, true, dir, f(v)) }, find: allOf(f)},
		{name: "replace", change: replace(true, "."), find: cur},
		{name: "replace-sync-file", change: replace(true, "cur"), find: cur},
		{name: "replace-unsynced", late: true, prepare: func(dir string) error { return writeWhole(0, true, dir, "cur") },
			change: replace(false), find: func(f found, lo, hi int) error {
				if b, err := f.read("cur"); err == nil && len(b) == 0 && lo < hi {
					return nil // Nothing was promised, but what is there is whole.
				}
				return readsWhole(f, "cur", max(lo, 0), hi)
			}},
		{name: "rename", prepare: first, change: func(dir string, v int) error {
			err := os.Rename(filepath.Join(dir, f(v-1)), filepath.Join(dir, f(v)))
			if v%2 == 0 {
				return errors.Join(err, syncPath(dir))
			}
			return errors.Join(err, syncPath(dir, f(v)))
		}, find: oneName(f)},
		{name: "rename-open", prepare: first, change: func(dir string, v int) error {
			return withFile(filepath.Join(dir, f(v-1)), os.O_RDWR, func(file *os.File) error {
				return errors.Join(os.Rename(filepath.Join(dir, f(v-1)), filepath.Join(dir, f(v))), file.Sync())
			})
		}, find: oneName(f)},
		{name: "move", prepare: func(dir string) error {
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			return errors.Join(os.Mkdir(a, 0o755), os.Mkdir(b, 0o755), writeWhole(0, true, a, "f"), syncPath(a), syncPath(b))
		}, change: func(dir string, v int) error {
			from, to := "a", "b"
			if v%2 == 1 {
				from, to = to, from
			}
			return errors.Join(os.Rename(filepath.Join(dir, from, "f"), filepath.Join(dir, to, "f")), syncPath(dir, to, "f"))
		}, find: func(f found, lo, hi int) error {
			a, b := f.has("a/f"), f.has("b/f")
			if a == b || lo == hi && b != (lo%2 == 0) {
				return fmt.Errorf("in the one folder: %v, in the other: %v", a, b)
			}
			return nil
		}},
		{name: "move-over", prepare: func(dir string) error {
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			return errors.Join(os.Mkdir(a, 0o755), os.Mkdir(b, 0o755), syncPath(a), syncPath(b))
		}, change: func(dir string, v int) error {
			tmp, cur := filepath.Join(dir, "a", "tmp"), filepath.Join(dir, "b", "cur")
			return errors.Join(writeWhole(v, true, tmp), os.Rename(tmp, cur), syncPath(cur))
		}, find: func(f found, lo, hi int) error {
			if lo == hi && f.has("a/tmp") {
				return errors.New("it has its old name")
			}
			return readsWhole(f, "b/cur", lo, hi)
		}},
		{name: "exchange", prepare: func(dir string) error {
			return errors.Join(writeWhole(1, true, dir, "a"), writeWhole(2, true, dir, "b"))
		}, change: func(dir string, v int) error {
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			return errors.Join(unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE), syncPath(dir))
		}, find: func(f found, lo, hi int) error {
			if lo == hi {
				return readsWhole(f, "a", 1+(lo+1)%2, 1+(lo+1)%2)
			}
			return errors.Join(readsWhole(f, "a", 1, 2), readsWhole(f, "b", 1, 2))
		}},
		{name: "unlink", change: func(dir string, v int) error {
			return errors.Join(writeWhole(v, true, dir, f(v)), os.Remove(filepath.Join(dir, f(v))), syncPath(dir))
		}, find: func(found found, lo, hi int) error {
			for v := 0; v <= lo; v++ {
				if found.has(f(v)) {
					return fmt.Errorf("%s is still there", f(v))
				}
			}
			return nil
		}},
	}
}

// oneName finds just one name of the versions in question.
func oneName(name func(v int) string) func(found, int, int) error {
	return func(f found, lo, hi int) error {
		list, err := os.ReadDir(f.dir)
		if err != nil {
			return err
		}
		for v := lo; v <= hi; v++ {
			if len(list) == 1 && list[0].Name() == filepath.Base(f.path(name(v))) {
				return nil
			}
		}
		return fmt.Errorf("there is %v", list)
	}
}

// allOf finds all versions by their names.
func allOf(name func(v int) string) func(found, int, int) error {
	return func(f found, lo, hi int) error {
		for v := range lo + 1 {
			if err := readsWhole(f, name(v), v, v); err != nil {
				return err
			}
		}
		return nil
	}
}
