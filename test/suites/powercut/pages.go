package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const pageSize = 4096

// pages are those of a file of n, of which each version changes some.
type pages struct {
	seed  uint64
	n     int
	run   int  // how many in a row are changed
	holes bool // every second version makes zeros
}

func newPages(seed uint64, n int) pages { return pages{seed: seed, n: n, run: 1} }

// emptied tells whether version v makes zeros.
func (p pages) emptied(v int) bool { return p.holes && v%2 == 1 }

// runs are the first pages of what version v changes. They may overlap.
func (p pages) runs(v int) []int {
	rng := rand.New(rand.NewPCG(p.seed, uint64(v)))
	all := make([]int, 3)
	for i := range all {
		all[i] = rng.IntN(p.n - p.run + 1)
	}
	return all
}

// version is what version v changes, by page.
func (p pages) version(v int) map[int][]byte {
	b := content(v, pageSize)
	if p.emptied(v) {
		b = make([]byte, pageSize)
	}
	all := make(map[int][]byte)
	for _, first := range p.runs(v) {
		for i := range p.run {
			all[first+i] = b
		}
	}
	return all
}

// writeTo writes version v.
func (p pages) writeTo(f interface {
	WriteAt(b []byte, off int64) (int, error)
}, v int) error {
	for n, b := range p.version(v) {
		if _, err := f.WriteAt(b, int64(n)*pageSize); err != nil {
			return err
		}
	}
	return nil
}

// copyTo is writeTo for memory.
func (p pages) copyTo(m []byte, v int) {
	for n, b := range p.version(v) {
		copy(m[n*pageSize:], b)
	}
}

// make makes a file with all pages zero, durably.
func (p pages) make(path ...string) error {
	return errors.Join(os.WriteFile(filepath.Join(path...), make([]byte, p.n*pageSize), 0o644), syncPath(path...))
}

// subject has change change the file f.
func (p pages) subject(name string, change func(f *os.File, v int) error) *subject {
	return &subject{name: name, prepare: func(dir string) error { return p.make(dir, "f") },
		change: func(dir string, v int) error {
			return withFile(filepath.Join(dir, "f"), os.O_RDWR, func(f *os.File) error { return change(f, v) })
		}, find: p.find}
}

// find says whether each page of the file f is as the version lo or one up to hi left it.
func (p pages) find(f found, lo, hi int) error { return p.findIn(f, "f", lo, hi) }

func (p pages) findIn(f found, name string, lo, hi int) error {
	b, err := f.read(name)
	if err != nil {
		return err
	}
	return p.check(b, lo, hi)
}

// check says whether each page in b is as the version lo or one up to hi left it.
func (p pages) check(b []byte, lo, hi int) error {
	if len(b) != p.n*pageSize {
		return fmt.Errorf("%d bytes, want %d", len(b), p.n*pageSize)
	}
	may := make([][][]byte, p.n)
	for n := range may {
		may[n] = [][]byte{make([]byte, pageSize)}
	}
	for v := 0; v <= hi; v++ {
		for n, b := range p.version(v) {
			if v <= lo {
				may[n] = nil
			}
			may[n] = append(may[n], b)
		}
	}
	for n, may := range may {
		ok := false
		for _, m := range may {
			ok = ok || bytes.Equal(m, b[n*pageSize:][:pageSize])
		}
		if !ok {
			return fmt.Errorf("page %d begins with %x", n, b[n*pageSize:][:8])
		}
	}
	return nil
}

// checkOne says whether b is one of the versions from lo to hi as a whole.
func (p pages) checkOne(b []byte, lo, hi int) error {
	var last error
	for v := lo; v <= hi; v++ {
		if last = p.check(b, v, v); last == nil {
			return nil
		}
	}
	return last
}
