package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lazyfs/store"
	"lazyfs/uffdmap"
)

// storeSubjects change stores without a mount. Each version is one commit, so that no
// state lies in between.
func storeSubjects(lazyfs string, seed uint64) []*subject {
	p := newPages(seed, 512)
	prepare := func(dir string) error {
		s, err := store.Create(filepath.Join(dir, "f"), store.CreateOptions{})
		if err != nil {
			return err
		}
		return errors.Join(s.Truncate(int64(p.n)*pageSize), s.Close())
	}
	find := func(f found, lo, hi int) error {
		b, err := readStore(f.path("f"))
		if err != nil {
			return err
		}
		var last error
		for v := lo; v <= hi; v++ {
			if last = p.check(b, v, v); last == nil {
				return checkStore(f.path("f"))
			}
		}
		return last
	}
	return []*subject{
		{name: "store", beside: true, prepare: prepare, find: find, change: func(dir string, v int) error {
			s, err := store.Open(filepath.Join(dir, "f"), store.Options{Writable: true})
			if err != nil {
				return err
			}
			for n, b := range p.version(v) {
				if _, err := s.WriteAt(b, int64(n)*pageSize); err != nil {
					return err
				}
			}
			err = s.Sync()
			if v%5 == 4 && err == nil {
				err = s.Compact(context.Background(), store.CompactOptions{})
			}
			return errors.Join(err, s.Close())
		}},
		{name: "view", beside: true, prepare: prepare, find: find, change: func(dir string, v int) error {
			m, err := uffdmap.Open(filepath.Join(dir, "f"), uffdmap.Options{Writable: true})
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
		}},
		{name: "map", beside: true, prepare: prepare, find: find, change: func(dir string, v int) error {
			m, err := uffdmap.Map(filepath.Join(dir, "f"), uffdmap.Options{Writable: true})
			if err != nil {
				return err
			}
			for n, b := range p.version(v) {
				copy(m.Bytes()[n*pageSize:], b)
			}
			return errors.Join(m.Sync(), m.Close())
		}},
		{name: "pack", beside: true, prepare: func(dir string) error { return writeWhole(0, true, dir, "plain") },
			change: func(dir string, v int) error {
				to := fmt.Sprint("f", v)
				return errors.Join(writeWhole(v, false, dir, "plain"),
					command(lazyfs, "pack", "--quiet", filepath.Join(dir, "plain"), filepath.Join(dir, to)))
			}, find: func(f found, lo, hi int) error {
				for v := 0; v <= hi; v++ { // What has its name is whole.
					b, err := readStore(f.path(fmt.Sprint("f", v)))
					if err == nil {
						err = isWhole(b, v, v)
					}
					if err != nil && (v <= lo || !errors.Is(err, os.ErrNotExist)) {
						return err
					}
				}
				return nil
			}},
	}
}
