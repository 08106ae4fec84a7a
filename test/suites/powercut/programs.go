package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"lazyfs/store"
)

// programsSubjects run lazyfs. What they pack and unpack is in folder away, on another disk.
func programsSubjects(lazyfs, away string, seed uint64) ([]*subject, error) {
	p := newPages(seed, 64)
	f := func(v int) string { return fmt.Sprint("f", v) }
	run := func(args ...string) error { return command(lazyfs, args...) }
	tree, packed := filepath.Join(away, "tree"), filepath.Join(away, "packed")
	if err := errors.Join(makeTree(tree), run("pack", "--quiet", tree, packed)); err != nil {
		return nil, err
	}
	pack := func(dir string, v int) error {
		return errors.Join(writeWhole(v, false, dir, "plain"), run("pack", "--quiet", filepath.Join(dir, "plain"), filepath.Join(dir, f(v))))
	}
	return []*subject{
		{name: "pack", beside: true, change: pack, find: findAll(f, findPacked)},
		{name: "pack-folder", beside: true, change: func(dir string, v int) error {
			return run("pack", "--quiet", tree, filepath.Join(dir, f(v)))
		}, find: findAll(f, func(f found, name string, _ int) error {
			return findTree(found{dir: filepath.Join(f.dir, name)})
		})},
		{name: "unpack", change: func(dir string, v int) error {
			return run("unpack", "--quiet", filepath.Join(packed, "large.lazy"), filepath.Join(dir, f(v)))
		}, find: findAll(f, func(f found, name string, _ int) error { return readsWhole(f, name, largeVersion, largeVersion) })},
		{name: "unpack-folder", change: func(dir string, v int) error {
			return run("unpack", "--quiet", packed, filepath.Join(dir, f(v)))
		}, find: findAll(f, func(f found, name string, _ int) error {
			return findTree(found{dir: filepath.Join(f.dir, name), plain: f.plain})
		})},
		// A copy of what is being written to takes the place of the one before.
		{name: "copy", beside: true, prepare: func(dir string) error { return p.makeStore(dir, "from") }, change: func(dir string, v int) error {
			s, err := store.Open(filepath.Join(dir, "from"), store.Options{Writable: true})
			if err != nil {
				return err
			}
			err = errors.Join(p.writeTo(s, v), s.Sync(), p.writeTo(s, v+1))
			if err == nil {
				err = run("copy", "--quiet", "--force", filepath.Join(dir, "from"), filepath.Join(dir, "f"))
			}
			return errors.Join(err, s.Discard())
		}, find: func(f found, lo, hi int) error {
			if lo < 0 && !f.has("f") {
				return nil
			}
			return p.findStore(f, max(lo, 0), hi)
		}},
		// Somebody reads what there was before.
		{name: "compact", beside: true, prepare: func(dir string) error { return p.makeStore(dir, "f") }, change: func(dir string, v int) error {
			path := filepath.Join(dir, "f")
			reader, err := store.Open(path, store.Options{})
			if err != nil {
				return err
			}
			defer reader.Close()
			s, err := store.Open(path, store.Options{Writable: true})
			if err != nil {
				return err
			}
			if err := errors.Join(p.writeTo(s, v), s.Close()); err != nil {
				return err
			}
			if v%2 == 0 {
				return run("compact", "--quiet", path)
			}
			return run("compact", "--quiet", "--codec", []string{"lz4", "zstd"}[v/2%2], path)
		}, find: p.findStore},
		{name: "repair", beside: true, change: func(dir string, v int) error {
			if err := pack(dir, v); err != nil {
				return err
			}
			// One of the two superblocks is enough.
			err := withFile(filepath.Join(dir, f(v)), os.O_WRONLY, func(f *os.File) error {
				_, err := f.WriteAt([]byte("damaged"), int64(v%2)*2048+60)
				return err
			})
			if err != nil {
				return err
			}
			err = run("check", "--quiet", "--repair", filepath.Join(dir, f(v)))
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() == 1 {
				return nil // It can't know what the damaged one said.
			}
			return err
		}, find: findAll(func(v int) string { return f(v) + ".repaired.lazy" }, findPacked)},
	}, nil
}

// findAll looks at what each version has made by a name: it is there from lo back, and
// what has its name is whole.
func findAll(name func(v int) string, find func(f found, name string, v int) error) func(found, int, int) error {
	return func(f found, lo, hi int) error {
		for v := range hi + 1 {
			if _, err := os.Lstat(filepath.Join(f.dir, name(v))); v > lo && err != nil && !f.has(name(v)) {
				continue
			}
			if err := find(f, name(v), v); err != nil {
				return fmt.Errorf("%s: %w", name(v), err)
			}
		}
		return nil
	}
}

// findPacked says whether the store by that name holds version v.
func findPacked(f found, name string, v int) error {
	b, err := readStore(f.path(name))
	if err != nil {
		return err
	}
	return isWhole(b, v, v)
}

const largeVersion = 8 // of the one file in a tree that takes more than a frame

// makeTree makes a small tree at path.
func makeTree(path string) error {
	sub := filepath.Join(path, "sub")
	return errors.Join(os.MkdirAll(sub, 0o755), writeWhole(0, false, path, "small"), writeWhole(largeVersion, false, path, "large"),
		os.Link(filepath.Join(path, "small"), filepath.Join(sub, "linked")), os.Symlink("../large", filepath.Join(sub, "link")),
		writeWhole(2, false, sub, "f"))
}

// findTree says whether f is a whole tree.
func findTree(f found) error {
	to, err := os.Readlink(filepath.Join(f.dir, "sub", "link"))
	if err == nil && to != "../large" {
		err = fmt.Errorf("the link leads to %q", to)
	}
	return errors.Join(err, readsWhole(f, "small", 0, 0), readsWhole(f, "large", largeVersion, largeVersion),
		readsWhole(f, "sub/linked", 0, 0), readsWhole(f, "sub/f", 2, 2))
}
