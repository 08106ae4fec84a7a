package main

import (
	"context"
	"errors"
	"path/filepath"

	"lazyfs/store"
)

// storeSubjects change stores without a mount. Each version is one commit, so that no
// state lies in between.
func storeSubjects(seed uint64) []*subject {
	p := newPages(seed, 512)
	f := func(change func(path string, v int) error) func(dir string, v int) error {
		return func(dir string, v int) error { return change(filepath.Join(dir, "f"), v) }
	}
	prepare := func(dir string) error { return p.makeStore(dir, "f") }
	return []*subject{
		{name: "store", beside: true, prepare: prepare, change: f(p.changeStore), find: p.findStore},
		{name: "view", beside: true, prepare: prepare, change: f(p.changeView), find: p.findStore},
		{name: "map", beside: true, prepare: prepare, change: f(p.changeMap), find: p.findStore},
	}
}

// changeStore makes version v in the store at path.
func (p pages) changeStore(path string, v int) error {
	s, err := store.Open(path, store.Options{Writable: true})
	if err != nil {
		return err
	}
	err = errors.Join(p.writeTo(s, v), s.Sync())
	if v%5 == 4 && err == nil {
		err = s.Compact(context.Background(), store.CompactOptions{})
	}
	return errors.Join(err, s.Close())
}

// makeStore is make for a store.
func (p pages) makeStore(path ...string) error {
	s, err := store.Create(filepath.Join(path...), store.CreateOptions{})
	if err != nil {
		return err
	}
	return errors.Join(s.Truncate(int64(p.n)*pageSize), s.Close())
}

// findStore says whether the store f is sound, and one of the versions from lo to hi.
func (p pages) findStore(f found, lo, hi int) error {
	b, err := readStore(f.path("f"))
	if err != nil {
		return err
	}
	return errors.Join(p.checkOne(b, lo, hi), checkStore(f.path("f")))
}
