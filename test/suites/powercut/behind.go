package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lazyfs/uffdmap"
)

// behindSubjects change what is in the folder back: stores by mappings and by its mount in
// turn, where what was changed by a mapping the mount has to show, and a plain file.
func behindSubjects(back string, seed uint64) []*subject {
	p := newPages(seed, 64)
	var all []*subject
	for name, change := range map[string]func(path string, v int) error{"behind-map": p.changeMap, "behind-view": p.changeView} {
		all = append(all, &subject{name: name, prepare: func(dir string) error { return p.make(dir, "f") },
			change: func(dir string, v int) error {
				if v%3 == 2 {
					return withFile(filepath.Join(dir, "f"), os.O_RDWR, func(f *os.File) error {
						return errors.Join(p.writeTo(f, v), f.Sync())
					})
				}
				// The mount keeps a store for a moment after it was closed.
				err := patiently(func() error { return change(filepath.Join(back, name, "f.lazy"), v) })
				if err != nil {
					return err
				}
				return p.shownBy(filepath.Join(dir, "f"), v)
			}, find: p.find})
	}
	plain := func(v int) string { return fmt.Sprint("f", v) }
	return append(all, &subject{name: "behind-plain", prepare: func(dir string) error {
		// What somebody else puts there is no store.
		return errors.Join(p.make(back, "behind-plain", plain(-1)), syncPath(back, "behind-plain"))
	}, change: func(dir string, v int) error {
		err := os.Rename(filepath.Join(dir, plain(v-1)), filepath.Join(dir, plain(v)))
		return errors.Join(err, withFile(filepath.Join(dir, plain(v)), os.O_RDWR, func(f *os.File) error {
			return errors.Join(p.writeTo(f, v), f.Sync())
		}))
	}, find: func(f found, lo, hi int) error {
		for v := lo; v <= hi; v++ {
			b, err := os.ReadFile(filepath.Join(f.dir, plain(v)))
			if err != nil || len(b) != p.n*pageSize {
				continue
			}
			for v := lo + 1; v <= hi; v++ { // What was being written may be torn.
				p.copyTo(b, v)
			}
			return p.check(b, lo, hi)
		}
		return errors.New("it has none of the names, or another size")
	}})
}

// changeMap makes version v in the store at path by a served mapping.
func (p pages) changeMap(path string, v int) error {
	m, err := uffdmap.Map(path, uffdmap.Options{Writable: true})
	if err != nil {
		return err
	}
	p.copyTo(m.Bytes(), v)
	return errors.Join(m.Sync(), m.Close())
}

// changeView makes version v in the store at path by a View mapping.
func (p pages) changeView(path string, v int) error {
	m, err := uffdmap.Open(path, uffdmap.Options{Writable: true})
	if err != nil {
		return err
	}
	for n, b := range p.version(v) {
		span, err := m.Edit(int64(n)*pageSize, pageSize)
		if err != nil {
			return err
		}
		copy(span.Bytes(), b)
		span.Release()
	}
	return errors.Join(m.Sync(), m.Close())
}

// shownBy waits until the file at path has version v: the kernel tells the mount a little
// late that a file was closed, and until then it stays as it was opened.
func (p pages) shownBy(path string, v int) error {
	return patiently(func() error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for n, want := range p.version(v) {
			if !bytes.Equal(b[n*pageSize:][:pageSize], want) {
				return fmt.Errorf("the mount shows page %d as it was", n)
			}
		}
		return nil
	})
}
