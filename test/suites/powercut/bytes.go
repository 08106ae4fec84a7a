package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// recordLen is what is appended at a time, in bytes.
const recordLen = 104

// bytesSubjects change what files hold.
func bytesSubjects(seed uint64) []*subject {
	first := func(dir string) error { return writeWhole(9, true, dir, "f") }
	return []*subject{
		{name: "append", prepare: first, change: func(dir string, v int) error {
			return withFile(filepath.Join(dir, "f"), os.O_WRONLY|os.O_APPEND, func(f *os.File) error {
				_, err := f.Write(content(v, recordLen))
				return errors.Join(err, unix.Fdatasync(int(f.Fd())))
			})
		}, find: func(f found, lo, hi int) error {
			b, err := f.read("f")
			if err != nil {
				return err
			}
			b, ok := bytes.CutPrefix(b, whole(9))
			n := len(b) / recordLen
			if !ok || len(b)%recordLen != 0 || n < lo+1 || n > hi+1 {
				return fmt.Errorf("%d bytes in records of %d", len(b), recordLen)
			}
			for v := range n {
				if !bytes.Equal(b[v*recordLen:][:recordLen], content(v, recordLen)) {
					return fmt.Errorf("record %d is wrong", v)
				}
			}
			return nil
		}},
		{name: "truncate", prepare: first, change: func(dir string, v int) error {
			return withFile(filepath.Join(dir, "f"), os.O_RDWR, func(f *os.File) error {
				return errors.Join(f.Truncate(int64(length(v))), f.Sync())
			})
		}, find: func(f found, lo, hi int) error {
			b, err := f.read("f")
			if err != nil {
				return err
			}
			for v := lo; v <= hi; v++ {
				if v < 0 && len(b) == length(9) || v >= 0 && len(b) == length(v) {
					return nil
				}
			}
			return fmt.Errorf("%d bytes", len(b))
		}},
		{name: "attributes", prepare: first, change: func(dir string, v int) error {
			return withFile(filepath.Join(dir, "f"), os.O_RDWR, func(f *os.File) error {
				return errors.Join(f.Chmod(mode(v)), unix.Fsetxattr(int(f.Fd()), "user.version", fmt.Append(nil, v), 0), f.Sync())
			})
		}, find: func(f found, lo, hi int) error {
			if lo < 0 {
				return nil
			}
			info, err := os.Stat(f.path("f"))
			if err != nil {
				return err
			}
			var b [20]byte
			n, err := unix.Getxattr(f.path("f"), "user.version", b[:])
			if err != nil {
				return err
			}
			modeOK, attrOK := false, false
			for v := lo; v <= hi; v++ {
				modeOK = modeOK || info.Mode() == mode(v)
				attrOK = attrOK || string(b[:n]) == fmt.Sprint(v)
			}
			if !modeOK || !attrOK {
				return fmt.Errorf("mode %v, attribute %s", info.Mode(), b[:n])
			}
			return nil
		}},
		{name: "closed", change: func(dir string, v int) error { // Whatever is left is sound.
			return writeWhole(v, false, dir, fmt.Sprint("f", v))
		}, find: func(found, int, int) error { return nil }},
		newPages(seed, 256).subject("write", func(p pages, dir string, v int) error {
			return withFile(filepath.Join(dir, "f"), os.O_RDWR, func(f *os.File) error {
				for n, b := range p.version(v) {
					if _, err := f.WriteAt(b, int64(n)*pageSize); err != nil {
						return err
					}
				}
				return f.Sync()
			})
		}),
		newPages(seed, 64).subject("mmap", func(p pages, dir string, v int) error {
			return withFile(filepath.Join(dir, "f"), os.O_RDWR, func(f *os.File) error {
				m, err := unix.Mmap(int(f.Fd()), 0, p.n*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
				if err != nil {
					return err
				}
				for n, b := range p.version(v) {
					copy(m[n*pageSize:], b)
				}
				return errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m))
			})
		}),
	}
}

func mode(v int) os.FileMode { return os.FileMode(0o400 + v%0o400) }

const pageSize = 4096

// pages are those of a file of n, of which each version writes some.
type pages struct {
	seed uint64
	n    int
}

func newPages(seed uint64, n int) pages { return pages{seed, n} }

// version is what version v writes, by page.
func (p pages) version(v int) map[int][]byte {
	rng := rand.New(rand.NewPCG(p.seed, uint64(v)))
	all := make(map[int][]byte)
	for range 3 {
		all[rng.IntN(p.n)] = content(v, pageSize)
	}
	return all
}

func (p pages) subject(name string, change func(p pages, dir string, v int) error) *subject {
	return &subject{name: name, prepare: func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "f"), make([]byte, p.n*pageSize), 0o644), syncPath(dir, "f"))
	}, change: func(dir string, v int) error { return change(p, dir, v) }, find: p.find}
}

// find says whether each page is as the version lo or one up to hi left it.
func (p pages) find(f found, lo, hi int) error {
	b, err := f.read("f")
	if err != nil {
		return err
	}
	return p.check(b, lo, hi)
}

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
