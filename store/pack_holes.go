package store

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A holeReader reads a stream in pieces and leaves out the holes of files and of page
// files.
type holeReader struct {
	r     io.Reader
	src   sparse // nil when r has no holes
	frame int64
	pos   int64
	data  span  // where src is known to have data: finding its end may take a walk over all of it
	size  int64 // of src
}

// A sparse is a source that knows its holes.
type sparse interface {
	io.ReaderAt

	// dataFrom is where the first data at or behind off lies, size when there is none.
	dataFrom(off, size int64) (span, error)
	// ended is io.EOF, unless there is less than the size that was taken for its own.
	ended(size int64) error
}

func newHoleReader(r io.Reader, frame int64) *holeReader {
	h := &holeReader{r: r, frame: frame}
	switch r := r.(type) {
	case *pagesReader:
		h.src, h.size = r.pages, r.pages.size
	case *os.File:
		fi, err := r.Stat()
		if err != nil || !fi.Mode().IsRegular() {
			return h
		}
		pos, err := r.Seek(0, io.SeekCurrent)
		if err == nil && pos == 0 && fi.Size() > 0 { // Files of the kernel have content all the same.
			h.src, h.size = fileSource{r}, fi.Size()
		}
	}
	return h
}

// next fills b, whole frames long, with the next piece and returns where it
// lies. With io.EOF comes the last one, whose end is the size.
func (h *holeReader) next(b []byte) (off int64, n int, err error) {
	if h.src == nil {
		n, err = readWhole(h.r, b)
		off, h.pos = h.pos, h.pos+int64(n)
		return off, n, err
	}
	if h.pos, n, err = h.dataRun(len(b)); err != nil {
		return 0, 0, err
	}
	got, err := h.src.ReadAt(b[:n], h.pos)
	off, h.pos = h.pos, h.pos+int64(got)
	if err == io.EOF || err == nil && h.pos >= h.size {
		err = h.src.ended(h.size)
	}
	return off, got, err
}

// maxEmptyReads is how many reads one after the other may bring nothing, as in bufio.
const maxEmptyReads = 100

// readWhole reads until b is full, or r ends or fails. It is not io.ReadFull, since r may
// itself end with the error of that.
func readWhole(r io.Reader, b []byte) (n int, err error) {
	for empty := 0; n < len(b) && err == nil; empty++ {
		if empty == maxEmptyReads {
			return n, io.ErrNoProgress
		}
		got := 0
		if got, err = r.Read(b[n:]); got > 0 {
			empty = -1
		}
		n += got
	}
	return n, err
}

// dataRun returns where the next data lies, from the beginning of a frame on, and
// how much of it is to be read, at most most bytes.
func (h *holeReader) dataRun(most int) (pos int64, n int, err error) {
	if h.pos >= h.data.to {
		if h.data, err = h.src.dataFrom(h.pos, h.size); err != nil {
			return 0, 0, err
		}
	}
	pos = max(h.pos, h.data.from&^(h.frame-1))
	end := min(roundUp(h.data.to, h.frame), h.size)
	return pos, int(min(end-pos, int64(most))), nil
}

// A fileSource is a regular file to pack.
type fileSource struct{ *os.File }

func (f fileSource) dataFrom(off, size int64) (data span, err error) {
	if data.from, err = f.seek(off, unix.SEEK_DATA, size); err != nil {
		return span{}, err
	}
	data.to, err = f.seek(data.from, unix.SEEK_HOLE, size)
	return data, err
}

// seek is lseek(2) for data and holes: the end when there is none, or none before the
// file grew, and off itself on file systems that know no holes.
func (f fileSource) seek(off int64, whence int, size int64) (int64, error) {
	at, err := unix.Seek(int(f.Fd()), off, whence)
	switch {
	case err == unix.ENXIO || err == unix.EINVAL && whence == unix.SEEK_HOLE:
		return size, nil
	case err == unix.EINVAL:
		return off, nil
	}
	return min(at, size), os.NewSyscallError("lseek", err)
}

// ended tells whether the file shrank: behind a hole no read does. Some files of the
// kernel say that they are longer than they are.
func (f fileSource) ended(size int64) error {
	fi, err := f.Stat()
	switch {
	case err != nil:
		return err
	case fi.Size() < size:
		return fmt.Errorf("%s: ends at %#x, at %#x when it was opened: %w", f.Name(), fi.Size(), size, io.ErrUnexpectedEOF)
	}
	return io.EOF
}
