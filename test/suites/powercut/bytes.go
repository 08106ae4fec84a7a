package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// bytesSubjects change what files hold.
func bytesSubjects(seed uint64) []*subject {
	holes := newPages(seed, 64)
	holes.run, holes.holes = 6, true
	return []*subject{
		appending("append", 0, 104),
		appending("append-dsync", unix.O_DSYNC, 104),
		appending("append-direct", unix.O_DIRECT|unix.O_SYNC, pageSize),
		{name: "truncate", prepare: func(dir string) error { return writeWhole(9, true, dir, "f") }, change: func(dir string, v int) error {
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
		{name: "closed", late: true, change: func(dir string, v int) error { // Whatever is left before is sound.
			return writeWhole(v, false, dir, fmt.Sprint("f", v))
		}, find: allOf(func(v int) string { return fmt.Sprint("f", v) })},
		closedLarge(),
		newPages(seed, 256).subject("write", func(f *os.File, v int) error {
			return errors.Join(newPages(seed, 256).writeTo(f, v), f.Sync())
		}),
		newPages(seed, 64).subject("mmap", func(f *os.File, v int) error {
			m, err := unix.Mmap(int(f.Fd()), 0, 64*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			newPages(seed, 64).copyTo(m, v)
			return errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m))
		}),
		holes.subject("punch", func(f *os.File, v int) error {
			if !holes.emptied(v) {
				return errors.Join(holes.writeTo(f, v), f.Sync())
			}
			mode := uint32(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
			if v%4 == 3 {
				mode = unix.FALLOC_FL_ZERO_RANGE
			}
			for _, first := range holes.runs(v) {
				if err := unix.Fallocate(int(f.Fd()), mode, int64(first)*pageSize, int64(holes.run)*pageSize); err != nil {
					return err
				}
			}
			return f.Sync()
		}),
		copying(newPages(seed, 64)),
		direct(newPages(seed, 64)),
	}
}

// closedLarge writes large files anew, which the kernel begins to write by itself.
func closedLarge() *subject {
	const n, files = 3 << 20, 4
	f := func(v int) string { return fmt.Sprint("f", v%files) }
	return &subject{name: "closed-large", late: true, change: func(dir string, v int) error {
		return os.WriteFile(filepath.Join(dir, f(v)), content(v, n), 0o644)
	}, find: func(found found, lo, hi int) error {
		for v := max(lo-files+1, 0); v <= lo; v++ { // Only the end of the mount makes them durable.
			if b, err := found.read(f(v)); err != nil || !bytes.Equal(b, content(v, n)) {
				return fmt.Errorf("%s: %d bytes: %v", f(v), len(b), err)
			}
		}
		return nil
	}}
}

// appending appends records of n bytes by a descriptor with these flags, and fdatasync.
func appending(name string, flags, n int) *subject {
	return &subject{name: name, prepare: func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "f"), nil, 0o644), syncPath(dir, "f"))
	}, change: func(dir string, v int) error {
		return withFile(filepath.Join(dir, "f"), os.O_WRONLY|os.O_APPEND|flags, func(f *os.File) error {
			b, err := aligned(content(v, n))
			if err != nil {
				return err
			}
			defer unix.Munmap(b)
			if _, err := f.Write(b[:n]); err != nil || flags != 0 {
				return err
			}
			return unix.Fdatasync(int(f.Fd()))
		})
	}, find: func(f found, lo, hi int) error {
		b, err := f.read("f")
		if err != nil {
			return err
		}
		if len(b)%n != 0 || len(b)/n < lo+1 || len(b)/n > hi+1 {
			return fmt.Errorf("%d bytes in records of %d", len(b), n)
		}
		for v := range len(b) / n {
			if string(b[v*n:][:n]) != string(content(v, n)) {
				return fmt.Errorf("record %d is wrong", v)
			}
		}
		return nil
	}}
}

// copying writes pages to another file and has the kernel copy them from there.
func copying(p pages) *subject {
	return &subject{name: "copy-range", prepare: func(dir string) error {
		return errors.Join(p.make(dir, "from"), p.make(dir, "f"))
	}, change: func(dir string, v int) error {
		return withFile(filepath.Join(dir, "from"), os.O_RDWR, func(from *os.File) error {
			return withFile(filepath.Join(dir, "f"), os.O_RDWR, func(to *os.File) error {
				if err := p.writeTo(from, v); err != nil {
					return err
				}
				for n := range p.version(v) {
					in, out := int64(n)*pageSize, int64(n)*pageSize
					if n, err := unix.CopyFileRange(int(from.Fd()), &in, int(to.Fd()), &out, pageSize, 0); n != pageSize {
						return fmt.Errorf("copy_file_range: %d bytes: %w", n, err)
					}
				}
				return to.Sync()
			})
		})
	}, find: p.find}
}

// direct writes past the kernel's pages, every second time with a flag instead of fsync.
func direct(p pages) *subject {
	return &subject{name: "direct", prepare: func(dir string) error { return p.make(dir, "f") },
		change: func(dir string, v int) error {
			flags := os.O_RDWR | unix.O_DIRECT
			if v%2 == 1 {
				flags |= unix.O_DSYNC
			}
			return withFile(filepath.Join(dir, "f"), flags, func(f *os.File) error {
				for n, b := range p.version(v) {
					b, err := aligned(b)
					if err != nil {
						return err
					}
					_, err = f.WriteAt(b, int64(n)*pageSize)
					if err := errors.Join(err, unix.Munmap(b)); err != nil {
						return err
					}
				}
				if v%2 == 1 {
					return nil
				}
				return f.Sync()
			})
		}, find: p.find}
}

// aligned is a copy of b that begins at a page of memory, as O_DIRECT wants it.
func aligned(b []byte) ([]byte, error) {
	m, err := unix.Mmap(-1, 0, len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	copy(m, b)
	return m, err
}
