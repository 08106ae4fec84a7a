package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// treesSubjects make, rename and remove folders.
func treesSubjects() []*subject {
	d := func(v int) string { return fmt.Sprint("d", v) }
	file := func(v int) string { return d(v) + "/e/f/g" }
	// build makes version v of three folders with a file, and syncs them from within.
	build := func(dir string, v int) error {
		e := filepath.Join(dir, d(v), "e")
		inner := filepath.Join(e, "f")
		return errors.Join(os.MkdirAll(inner, 0o755), writeWhole(max(v, 0), true, inner, "g"),
			syncPath(inner), syncPath(e), syncPath(dir, d(v)), syncPath(dir))
	}
	return []*subject{
		{name: "folders", change: func(dir string, v int) error {
			sub := filepath.Join(dir, d(v))
			return errors.Join(os.Mkdir(sub, 0o755), writeWhole(v, true, sub, "f"), syncPath(sub), syncPath(dir))
		}, find: allOf(func(v int) string { return d(v) + "/f" })},
		{name: "tree", change: build, find: allOf(file)},
		{name: "tree-outside-in", change: func(dir string, v int) error {
			for _, sub := range []string{d(v), "e", "f"} {
				if err := errors.Join(os.Mkdir(filepath.Join(dir, sub), 0o755), syncPath(dir)); err != nil {
					return err
				}
				dir = filepath.Join(dir, sub)
			}
			return errors.Join(writeWhole(v, true, dir, "g"), syncPath(dir))
		}, find: allOf(file)},
		{name: "tree-rename", prepare: func(dir string) error { return build(dir, -1) }, change: func(dir string, v int) error {
			return errors.Join(os.Rename(filepath.Join(dir, d(v-1)), filepath.Join(dir, d(v))), syncPath(dir))
		}, find: func(f found, lo, hi int) error {
			for v := lo; v <= hi; v++ {
				if f.has(file(v)) {
					return readsWhole(f, file(v), 0, 0)
				}
			}
			return errors.New("it has none of the names")
		}},
		{name: "tree-move", prepare: func(dir string) error {
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			return errors.Join(os.Mkdir(a, 0o755), os.Mkdir(b, 0o755), build(a, 0), syncPath(b))
		}, change: func(dir string, v int) error {
			from, to := "a", "b"
			if v%2 == 1 {
				from, to = to, from
			}
			return errors.Join(os.Rename(filepath.Join(dir, from, d(0)), filepath.Join(dir, to, d(0))), syncPath(dir, to), syncPath(dir, from))
		}, find: func(f found, lo, hi int) error {
			a, b := f.has("a/"+file(0)), f.has("b/"+file(0))
			if lo == hi && (a == b || b != (lo%2 == 0)) || !a && !b {
				return fmt.Errorf("in the one folder: %v, in the other: %v", a, b)
			}
			return nil
		}},
		{name: "tree-remove", change: func(dir string, v int) error {
			return errors.Join(build(dir, v), os.RemoveAll(filepath.Join(dir, d(v))), syncPath(dir))
		}, find: func(f found, lo, hi int) error {
			for v := range lo + 1 {
				if f.has(file(v)) {
					return fmt.Errorf("%s is still there", file(v))
				}
			}
			return nil
		}},
	}
}
