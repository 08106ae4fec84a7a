package main

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"lazyfs/store"
)

var unpackCommand = command{
	name:    "unpack",
	args:    []string{"STORE DST"},
	min:     2,
	max:     2,
	summary: "Write the plain content of a store, or of a folder of stores",
	about: `DST is a file, or - for standard output. If STORE is a folder, DST is a new
folder with the same tree: each store NAME.lazy in it becomes NAME, other files
are copied. Holes stay holes, and modes and times are kept (owners too, for
root).

DST gets its name when it is complete and durable: an unpack that fails, for
example because the store is damaged, or is interrupted leaves nothing.`,
	examples: []string{
		"lazyfs unpack vm.img.lazy vm.img",
		"lazyfs unpack src.tar.lazy - | tar x",
		"lazyfs unpack docs /tmp/doc",
	},
	declare: func(f *pflag.FlagSet) action {
		var u unpacker
		f.IntVar(&u.jobs, "jobs", runtime.GOMAXPROCS(0), "decompress with `N` workers")
		f.BoolVar(&u.force, "force", false, "replace DST if it is a file that exists")
		u.quiet = quietFlag(f)
		return u.run
	},
}

// An unpacker is one run of unpack.
type unpacker struct {
	jobs  int
	force bool
	quiet *bool
}

func (u *unpacker) run(ctx context.Context, args []string) error {
	src, dst := args[0], args[1]
	if err := checkJobs(u.jobs); err != nil {
		return err
	}
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	start := time.Now()
	var n int64
	switch {
	case info.IsDir() && dst == "-":
		return usagef("%s: is a folder: it can't be unpacked to standard output", src)
	case info.IsDir():
		n, err = u.folder(ctx, src, dst)
	case dst == "-":
		return u.output(ctx, src)
	default:
		n, err = u.file(ctx, src, dst)
	}
	if err == nil && !*u.quiet {
		err = printLine(os.Stdout, "%s: %s, %.0f MB/s", dst, humanSize(n), float64(n)/time.Since(start).Seconds()/1e6)
	}
	return err
}

// output writes the store src to standard output.
func (u *unpacker) output(ctx context.Context, src string) error {
	s, err := store.Open(src, store.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	bar := newProgress(*u.quiet, src)
	defer bar.end()
	return stream(ctx, endingWriter{ctx, os.Stdout}, s, 0, s.Size(), u.jobs, func(done int64) { bar.report(done, s.Size()) })
}

// file writes the store src into the new file dst and returns its size.
func (u *unpacker) file(ctx context.Context, src, dst string) (int64, error) {
	s, info, err := openLike(src)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if err := checkOther(dst, src, info); err != nil {
		return 0, err
	}
	f, err := createFile(dst, u.force)
	if err != nil {
		return 0, err
	}
	defer f.discard()
	bar := newProgress(*u.quiet, src)
	defer bar.end()
	if err := restore(ctx, f.File, s, u.jobs, func(done int64) { bar.report(done, s.Size()) }); err != nil {
		return 0, err
	}
	return s.Size(), f.finish(info)
}

// openLike opens the store at path to read it, and returns with it what a file that is
// made of it gets for its mode, times and owner.
func openLike(path string) (*store.Store, fs.FileInfo, error) {
	f, err := openNow(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	s, err := store.OpenFile(f, store.Options{})
	return s, info, err
}

// folder unpacks a folder of stores and returns the size of its plain files.
func (u *unpacker) folder(ctx context.Context, src, dst string) (int64, error) {
	t, err := readTree(src)
	if err != nil {
		return 0, err
	}
	bar := newProgress(*u.quiet, src)
	defer bar.end()
	var plain, read atomic.Int64 // plain bytes written, bytes of the tree done with
	m := mirror{
		src: src, dst: dst, jobs: u.jobs,
		plan: func(rel string) (string, bool, error) {
			name, isStore, err := plainName(filepath.Join(src, rel))
			return filepath.Join(filepath.Dir(rel), name), isStore, err
		},
		convert: func(ctx context.Context, src *os.File, e treeEntry, jobs int) error {
			n, err := unpackEntry(ctx, src, e, jobs)
			plain.Add(n)
			bar.report(read.Add(e.info.Size()), t.bytes)
			return err
		},
	}
	err = m.run(ctx, t)
	return plain.Load(), err
}

// unpackEntry makes one file of a folder from the file f, which it closes, and returns
// its size.
func unpackEntry(ctx context.Context, f *os.File, e treeEntry, jobs int) (int64, error) {
	var src interface {
		sparse
		io.Closer
	}
	src = sparseFile{f, e.info.Size()}
	if e.isStore {
		s, err := store.OpenFile(f, store.Options{Blank: &store.CreateOptions{}})
		if err != nil {
			return 0, err
		}
		src = s
	}
	defer src.Close()
	dst, err := os.OpenFile(e.to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer dst.Close()
	if err := restore(ctx, dst, src, jobs, func(int64) {}); err != nil {
		return 0, err
	}
	return src.Size(), dst.Close()
}
