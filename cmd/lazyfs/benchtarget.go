package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"lazyfs/internal/load"
	"lazyfs/store"
	"lazyfs/uffdmap"
)

// A benchTarget is what bench loads.
type benchTarget interface {
	load.Target
	io.Closer

	// size is the number of bytes that jobs may work on.
	size() int64
	// prepare readies the target for a run with o.
	prepare(o *load.Options) error
}

// openTarget opens STORE or PATH for the run that the flags describe.
func (b *bencher) openTarget(kind, path string) (benchTarget, error) {
	writes := b.options.Mode.Writes()
	if kind == "file" {
		var want int64 // Without --size the jobs take what there is.
		if b.options.Size > 0 {
			want = b.options.Offset + b.options.Size
		}
		return openFileTarget(path, writes, b.overwrite, want)
	}
	limit := int64(b.limit)
	if b.access.value == "readat" {
		o := store.Options{Writable: writes}
		if limit > 0 {
			o.Cache = store.NewCache(limit)
		}
		s, err := store.Open(path, o)
		if err != nil {
			return nil, err
		}
		return storeTarget{s}, nil
	}
	o := uffdmap.Options{
		Writable:    writes && b.overwrite,
		Private:     writes && !b.overwrite,
		MemoryLimit: limit,
		NoTracking:  b.tracking.value == "none",
	}
	if b.access.value == "bytes" {
		m, err := uffdmap.Map(path, o)
		if err != nil {
			return nil, err
		}
		return bytesTarget{m}, nil
	}
	v, err := uffdmap.Open(path, o)
	if err != nil {
		return nil, err
	}
	return viewTarget{v}, nil
}

// A fileTarget is a file.
type fileTarget struct {
	*os.File
	length int64
}

// openFileTarget opens the file at path. A file that is written is made if need
// be, and has at least want bytes then.
func openFileTarget(path string, writes, overwrite bool, want int64) (benchTarget, error) {
	flags := os.O_RDONLY
	if writes {
		flags = os.O_RDWR
		switch info, err := os.Stat(path); {
		case errors.Is(err, fs.ErrNotExist) && want == 0:
			return nil, fmt.Errorf("%s: does not exist: --size says how large to make it", path)
		case errors.Is(err, fs.ErrNotExist):
			flags |= os.O_CREATE | os.O_EXCL
		case err != nil:
			return nil, err
		case !overwrite && (info.Size() > 0 || !info.Mode().IsRegular()):
			return nil, fmt.Errorf("%s: holds something: --overwrite lets the jobs write over it", path)
		}
	}
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK, fs.FileMode(0o666&^umask)) // as openNow
	if err != nil {
		return nil, err
	}
	t := &fileTarget{f, 0}
	// Seeking finds the size of a block device too.
	if t.length, err = f.Seek(0, io.SeekEnd); err == nil && writes && t.length < want {
		t.length, err = want, f.Truncate(want)
	}
	if err != nil {
		if flags&os.O_CREATE != 0 {
			err = errors.Join(err, os.Remove(path))
		}
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

func (t *fileTarget) size() int64 { return t.length }

// prepare does what fio does before a run: it drops the file from the page cache
// (invalidate=1) and tells the kernel the pattern (fadvise_hint=1).
func (t *fileTarget) prepare(o *load.Options) error {
	advice := unix.FADV_SEQUENTIAL
	if o.Mode.Random() {
		advice = unix.FADV_RANDOM
	}
	for _, a := range []int{unix.FADV_DONTNEED, advice} {
		// Not every file has a page cache.
		if err := unix.Fadvise(int(t.Fd()), o.Offset, o.Size, a); err != nil && err != unix.EINVAL && err != unix.ESPIPE {
			return &fs.PathError{Op: "fadvise", Path: t.Name(), Err: err}
		}
	}
	return nil
}

// A storeTarget is a store without a mapping.
type storeTarget struct{ *store.Store }

func (t storeTarget) size() int64                 { return t.Size() }
func (t storeTarget) prepare(*load.Options) error { return nil }

// A viewTarget is a View mapping.
type viewTarget struct{ *uffdmap.Viewer }

func (t viewTarget) size() int64                 { return t.Size() }
func (t viewTarget) prepare(*load.Options) error { return nil }

func (t viewTarget) ReadAt(p []byte, off int64) (int, error) {
	s, err := t.View(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer s.Release()
	return copy(p, s.Bytes()), nil
}

func (t viewTarget) WriteAt(p []byte, off int64) (int, error) {
	s, err := t.Edit(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer s.Release()
	return copy(s.Bytes(), p), nil
}

// A bytesTarget is a served mapping.
type bytesTarget struct{ *uffdmap.Mapping }

func (t bytesTarget) size() int64                 { return t.Size() }
func (t bytesTarget) prepare(*load.Options) error { return nil }

func (t bytesTarget) ReadAt(p []byte, off int64) (int, error) {
	return t.touch(off, int64(len(p)), func(mem []byte) int { return copy(p, mem) })
}

func (t bytesTarget) WriteAt(p []byte, off int64) (int, error) {
	return t.touch(off, int64(len(p)), func(mem []byte) int { return copy(mem, p) })
}

// touch calls do on n bytes at off, and makes an error of the fault of a page
// that can't be read.
func (t bytesTarget) touch(off, n int64, do func(mem []byte) int) (done int, err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			// Only a Prefetch can tell the reason.
			if err = t.Prefetch(uffdmap.Range{Off: off, Len: n}); err == nil {
				err = fmt.Errorf("touch of %d bytes at %#x: %v", n, off, r)
			}
		}
	}()
	return do(t.Bytes()[off : off+n]), nil
}

// A mapping is a target that keeps pages in memory.
type mapping interface {
	benchTarget
	Resident() iter.Seq[uffdmap.Range]
	Stats() uffdmap.Stats
}
