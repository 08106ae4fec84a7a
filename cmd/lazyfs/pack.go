package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"lazyfs/store"
)

var packCommand = command{
	name:    "pack",
	args:    []string{"SRC STORE", "--pages PATTERN FOLDER STORE"},
	min:     2,
	max:     2,
	summary: "Pack a file, standard input or a folder into a new store",
	about: `SRC is a file, - for standard input, or a folder. For a folder STORE is a new
folder with the same tree, in which each regular file NAME is a store NAME.lazy.
Holes stay holes, hard links stay links, and modes and times are kept (owners
too, for root). Extended attributes are not kept.

The store gets its name when it is complete and durable: a pack that fails or is
interrupted leaves nothing. The ratio that it tells is as in info, of all stores
together.`,
	examples: []string{
		"lazyfs pack vm.img vm.img.lazy",
		"lazyfs pack --codec zstd --frame 64K /usr/share/doc docs",
		"tar c src | lazyfs pack - src.tar.lazy",
		"lazyfs pack --pages 'tmp%d.gz' pages memory.lazy",
	},
	declare: func(f *pflag.FlagSet) action {
		var p packer
		p.flags.declare(f)
		f.IntVar(&p.jobs, "jobs", runtime.GOMAXPROCS(0), "compress with `N` workers")
		f.StringVar(&p.pages, "pages", "", "SRC is a folder with one gzip file for each page of 4096 bytes, named by `PATTERN`, where %d is the page's number from 0")
		f.BoolVar(&p.force, "force", false, "replace STORE if it is a file that exists")
		f.BoolVar(&p.json, "json", false, "print the summary as JSON")
		p.quiet = quietFlag(f)
		return p.run
	},
}

// A packer is one run of pack.
type packer struct {
	flags storeFlags
	jobs  int
	pages string
	force bool
	json  bool
	quiet *bool

	options store.CreateOptions
	files   atomic.Int64
	plain   atomic.Int64 // plain bytes packed
	data    atomic.Int64 // of them not in holes
	used    atomic.Int64 // bytes of the stores' files in use
	disk    atomic.Int64 // what the stores take of the disk
}

func (p *packer) run(ctx context.Context, args []string) (err error) {
	src, dst := args[0], args[1]
	if dst == "-" {
		return errStoreToOutput
	}
	if p.options, err = p.flags.options(); err != nil {
		return err
	}
	if err := checkJobs(p.jobs); err != nil {
		return err
	}
	start := time.Now()
	if err := p.pack(ctx, src, dst); err != nil {
		return err
	}
	return p.summary(dst, time.Since(start))
}

func (p *packer) pack(ctx context.Context, src, dst string) error {
	if p.pages != "" {
		return p.packPages(ctx, src, dst)
	}
	if src == "-" {
		if closedInput() {
			return errors.New("standard input: is closed")
		}
		return p.packOpen(ctx, os.Stdin, dst, "standard input")
	}
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return p.packFolder(ctx, src, dst)
	}
	if err := checkOther(dst, src, info); err != nil {
		return err
	}
	flags := os.O_RDONLY
	if info.Mode()&fs.ModeNamedPipe != 0 {
		flags |= unix.O_NONBLOCK // waitingReader waits for who writes to it
	}
	f, err := os.OpenFile(src, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return p.packOpen(ctx, f, dst, src)
}

// closedInput says whether this program was started without standard input. Go has opened
// the null device in its place then, for reading and writing, which would be an empty file.
func closedInput() bool {
	var st unix.Stat_t
	flags, err := unix.FcntlInt(0, unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR && unix.Fstat(0, &st) == nil && st.Rdev == unix.Mkdev(1, 3)
}

// packOpen packs the open file src, which may be a pipe.
func (p *packer) packOpen(ctx context.Context, src *os.File, dst, name string) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s: is a folder", name)
	}
	// Only the file's own mode and times mean something: a pipe's do not.
	var like fs.FileInfo
	var r io.Reader = waitingReader{ctx, src}
	var size int64
	if info.Mode().IsRegular() {
		like, r, size = info, src, info.Size()
	}
	bar := newProgress(*p.quiet, name)
	defer bar.end()
	return p.packNew(ctx, r, size, dst, like, bar)
}

// packPages packs a folder of page files.
func (p *packer) packPages(ctx context.Context, folder, dst string) error {
	pages, err := store.OpenPages(folder, p.pages)
	if err != nil {
		return err
	}
	defer pages.Close()
	bar := newProgress(*p.quiet, folder)
	defer bar.end()
	return p.packNew(ctx, pages.Reader(), pages.Size(), dst, nil, bar)
}

// packNew packs r, of size bytes or 0 when that is not known, into the new store
// dst with the mode and times of like.
func (p *packer) packNew(ctx context.Context, r io.Reader, size int64, dst string, like fs.FileInfo, bar *progress) error {
	f, err := createFile(dst, p.force)
	if err != nil {
		return err
	}
	defer f.discard()
	report := func(plain, _ int64) { bar.report(plain, size) }
	if err := p.packInto(ctx, f.File, r, p.jobs, report); err != nil {
		return err
	}
	return f.finish(like)
}

// packInto packs r into the empty file f and counts it.
func (p *packer) packInto(ctx context.Context, f *os.File, r io.Reader, jobs int, report func(plain, stored int64)) error {
	info, err := store.Pack(ctx, f, r, store.PackOptions{
		CreateOptions: p.options,
		Workers:       jobs,
		Progress:      report,
	})
	if err != nil {
		return err
	}
	p.files.Add(1)
	p.plain.Add(info.Size)
	p.data.Add(info.DataSize)
	p.used.Add(info.FileSize - info.FreeSize)
	p.disk.Add(info.DiskSize)
	return nil
}

// summary tells what was packed.
func (p *packer) summary(dst string, spent time.Duration) error {
	plain, data, used := p.plain.Load(), p.data.Load(), p.used.Load()
	ratio := float64(data) / float64(max(used, 1)) // as Info.Ratio, of all stores
	if p.json {
		return json.NewEncoder(os.Stdout).Encode(struct {
			Store   string  `json:"store"`
			Files   int64   `json:"files"`
			Plain   int64   `json:"plain_bytes"`
			Data    int64   `json:"data_bytes"`
			Used    int64   `json:"used_bytes"`
			Disk    int64   `json:"disk_bytes"`
			Ratio   float64 `json:"ratio"`
			Seconds float64 `json:"seconds"`
		}{dst, p.files.Load(), plain, data, used, p.disk.Load(), ratio, spent.Seconds()})
	}
	if *p.quiet {
		return nil
	}
	what := humanSize(plain)
	if data < plain {
		what += fmt.Sprintf(" (%s without holes)", humanSize(data))
	}
	if n := p.files.Load(); n > 1 {
		what = fmt.Sprintf("%d files, %s", n, what)
	}
	return printLine(os.Stdout, "%s: %s in %s, ratio %.2f, %.0f MB/s", dst, what, humanSize(used), ratio, float64(plain)/spent.Seconds()/1e6)
}
