package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
)

// Pages is a folder of page files read as one plain file: a gzip file for each
// page of 4096 bytes, named by the page's number. A page without a file is a
// hole. The last page may be shorter than 4096 bytes, which makes Size smaller;
// any other is damaged then.
//
// The folder is listed once, when it is opened: page files may not come and go
// afterwards. All methods but Close may be called from many goroutines at once.
type Pages struct {
	dir   *os.File
	names pageNames
	pages []int64 // numbers of the pages that have a file, ascending
	size  int64   // plain bytes
	gzip  codec.Codec
}

// maxPageFile is the longest page file that is read, in bytes: a page and the
// names and comments that gzip files may hold.
const maxPageFile = 64 << 10

var pageFileBuffers = sync.Pool{New: func() any { return new([maxPageFile]byte) }}

// OpenPages opens the page files in folder. pattern is the name of one, with %d
// in the place of the page's number, which counts from 0, or %04d and the like
// for numbers with leading zeros. Other files are ignored; it is an error when
// there is no page file at all.
func OpenPages(folder, pattern string) (*Pages, error) {
	dir, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	return OpenPagesAt(dir, pattern)
}

// OpenPagesAt opens the page files in the folder dir, as OpenPages does, and
// owns dir from then on, also on error.
func OpenPagesAt(dir *os.File, pattern string) (*Pages, error) {
	p := &Pages{dir: dir}
	if err := p.open(pattern); err != nil {
		_ = dir.Close()
		return nil, err
	}
	return p, nil
}

func (p *Pages) open(pattern string) (err error) {
	if p.names, err = parsePageNames(pattern); err != nil {
		return err
	}
	if p.gzip, err = codec.New(codec.Gzip, 0); err != nil {
		return err
	}
	if err := p.list(); err != nil {
		return err
	}
	if len(p.pages) == 0 {
		return fmt.Errorf("%s: no page files named %s: %w", p.dir.Name(), pattern, fs.ErrNotExist)
	}
	return p.measure()
}

// list fills pages. It reads the folder through a description of its own, since
// other holders of dir's move its position, too.
func (p *Pages) list() error {
	fd, err := p.openat(".", unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	list := os.NewFile(uintptr(fd), p.dir.Name())
	defer list.Close()
	for {
		names, err := list.Readdirnames(4096)
		if err == io.EOF {
			slices.Sort(p.pages)
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			n, ok, err := p.names.number(name)
			if err != nil {
				return fmt.Errorf("%s: %w", p.path(name), err)
			}
			if ok {
				p.pages = append(p.pages, n)
			}
		}
	}
}

// measure finds the size from the length of the last page. A damaged one counts
// whole: it fails when it is read, and keeps nobody from the others.
func (p *Pages) measure() error {
	last := p.pages[len(p.pages)-1]
	var page [PageSize]byte
	n, err := p.decode(last, page[:])
	if errors.Is(err, ErrDamaged) {
		n = PageSize
	} else if err != nil {
		return err
	}
	p.size = last*PageSize + int64(n)
	return nil
}

// Size is the number of plain bytes.
func (p *Pages) Size() int64 { return p.size }

// FrameSize is PageSize.
func (p *Pages) FrameSize() int { return PageSize }

// Close closes the folder.
func (p *Pages) Close() error { return p.dir.Close() }

// ReadFrame fills dst, PageSize bytes long, with page n; what lies past Size is
// zero. zero says that the page is a hole; dst is left as it was then. A page
// file that is not as it should be gives a *DamageError with its path.
func (p *Pages) ReadFrame(n int64, dst []byte) (zero bool, err error) {
	if last := (p.size + PageSize - 1) / PageSize; n < 0 || n >= last {
		return false, fmt.Errorf("read frame %d of %d: %w", n, last, io.EOF)
	}
	if len(dst) != PageSize {
		return false, fmt.Errorf("read frame %d: buffer is %d bytes, want %d", n, len(dst), PageSize)
	}
	if _, ok := slices.BinarySearch(p.pages, n); !ok {
		return true, nil
	}
	got, err := p.decode(n, dst)
	if err != nil {
		return false, err
	}
	if want := p.plain(n).Len; int64(got) != want {
		return false, p.damage(n, "page of %d bytes, want %d", got, want)
	}
	clear(dst[got:])
	return false, nil
}

// ReadAt reads the plain bytes from off on into b.
func (p *Pages) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s: negative offset %d", p.dir.Name(), off)
	}
	done := 0
	for done < len(b) && off < p.size {
		n, in := off/PageSize, int(off%PageSize)
		part := b[done:][:min(int64(len(b)-done), int64(PageSize-in), p.size-off)]
		if err := p.readPart(part, n, in); err != nil {
			return done, err
		}
		done += len(part)
		off += int64(len(part))
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

// Reader returns what reads the plain bytes from the beginning on. Pack makes holes of
// the holes in it.
func (p *Pages) Reader() io.Reader {
	return &pagesReader{io.NewSectionReader(p, 0, p.size), p}
}

type pagesReader struct {
	io.Reader
	pages *Pages
}

func (p *Pages) dataFrom(off, size int64) (span, error) {
	i, _ := slices.BinarySearch(p.pages, off/PageSize)
	if i == len(p.pages) {
		return span{size, size}, nil
	}
	first, end := p.pages[i], p.pages[i]+1
	for i++; i < len(p.pages) && p.pages[i] == end; i++ {
		end++
	}
	return span{max(off, first*PageSize), min(end*PageSize, size)}, nil
}

func (p *Pages) ended(int64) error { return io.EOF }

// readPart reads a piece of page n, from its byte in on.
func (p *Pages) readPart(part []byte, n int64, in int) error {
	page := part
	if len(part) < PageSize {
		var buf [PageSize]byte
		page = buf[:]
	}
	zero, err := p.ReadFrame(n, page)
	switch {
	case err != nil:
		return err
	case zero:
		clear(part)
	case len(part) < PageSize:
		copy(part, page[in:])
	}
	return nil
}

// decode decompresses the file of page n into dst, PageSize bytes long, and
// returns its plain length.
func (p *Pages) decode(n int64, dst []byte) (int, error) {
	buf := pageFileBuffers.Get().(*[maxPageFile]byte)
	defer pageFileBuffers.Put(buf)
	size, err := p.readFile(p.names.name(n), buf[:])
	if err != nil {
		return 0, err
	}
	if size == len(buf) {
		return 0, p.damage(n, "page file of %d bytes or more, want less", maxPageFile)
	}
	got, err := p.gzip.Decode(dst, buf[:size])
	if errors.Is(err, codec.ErrShort) {
		return 0, p.damage(n, "page of more than %d bytes, want %d", PageSize, PageSize)
	}
	if err != nil {
		return 0, p.damage(n, "page file of %d bytes: %v", size, err)
	}
	return got, nil
}

// readFile reads the file name in the folder into b, as far as it fits.
func (p *Pages) readFile(name string, b []byte) (int, error) {
	// Opening a named pipe without O_NONBLOCK would wait for its writer.
	fd, err := p.openat(name, unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	n := 0
	for n < len(b) {
		var m int
		err := retryEINTR(func() (err error) {
			m, err = unix.Pread(fd, b[n:], int64(n))
			return err
		})
		if err != nil {
			return 0, &fs.PathError{Op: "read", Path: p.path(name), Err: err}
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// openat opens name in the folder for reading.
func (p *Pages) openat(name string, flags int) (fd int, err error) {
	conn, err := p.dir.SyscallConn()
	if err != nil {
		return -1, err
	}
	closed := conn.Control(func(dir uintptr) {
		err = retryEINTR(func() error {
			fd, err = unix.Openat(int(dir), name, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
			return err
		})
	})
	if closed != nil {
		err = os.ErrClosed
	}
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: p.path(name), Err: err}
	}
	return fd, nil
}

func (p *Pages) path(name string) string { return filepath.Join(p.dir.Name(), name) }

// plain is the range of page n within Size.
func (p *Pages) plain(n int64) Range {
	return Range{n * PageSize, min(PageSize, p.size-n*PageSize)}
}

func (p *Pages) damage(n int64, format string, args ...any) error {
	d := damagef(framePart(kindGzip, n), 0, format, args...)
	d.Path = p.path(p.names.name(n))
	d.Plain = p.plain(n)
	return d
}
