package store

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A holeReader reads a stream in pieces and leaves out the holes of files.
type holeReader struct {
	r     io.Reader
	f     *os.File // nil when r has no holes
	frame int64
	pos   int64
	data  span  // where f is known to have data: finding its end may take a walk over all of it
	size  int64 // of f
}

func newHoleReader(r io.Reader, frame int64) *holeReader {
	h := &holeReader{r: r, frame: frame}
	f, ok := r.(*os.File)
	if !ok {
		return h
	}
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return h
	}
	pos, err := f.Seek(0, io.SeekCurrent)
	if err == nil && pos == 0 && fi.Size() > 0 { // Files of the kernel have content all the same.
		h.f, h.size = f, fi.Size()
	}
	return h
}

// next fills b, whole frames long, with the next piece and returns where it
// lies. With io.EOF comes the last one, whose end is the size.
func (h *holeReader) next(b []byte) (off int64, n int, err error) {
	if h.f == nil {
		n, err = readWhole(h.r, b)
		off, h.pos = h.pos, h.pos+int64(n)
		return off, n, err
	}
	if h.pos, n, err = h.dataRun(len(b)); err != nil {
		return 0, 0, err
	}
	got, err := h.f.ReadAt(b[:n], h.pos)
	off, h.pos = h.pos, h.pos+int64(got)
	if err == io.EOF || err == nil && h.pos >= h.size {
		err = h.ended()
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

// ended is io.EOF, unless the file shrank to less than was taken for its size: behind
// a hole no read tells. Some files of the kernel say that they are longer than they are.
func (h *holeReader) ended() error {
	fi, err := h.f.Stat()
	switch {
	case err != nil:
		return err
	case fi.Size() < h.size:
		return fmt.Errorf("%s: ends at %#x, at %#x when it was opened: %w", h.f.Name(), fi.Size(), h.size, io.ErrUnexpectedEOF)
	}
	return io.EOF
}

// dataRun returns where the next data lies, from the beginning of a frame on, and
// how much of it is to be read, at most most bytes.
func (h *holeReader) dataRun(most int) (pos int64, n int, err error) {
	if h.pos >= h.data.to {
		if err := h.nextData(); err != nil {
			return 0, 0, err
		}
	}
	pos = max(h.pos, h.data.from&^(h.frame-1))
	end := min(roundUp(h.data.to, h.frame), h.size)
	return pos, int(min(end-pos, int64(most))), nil
}

// nextData finds the data at or behind pos.
func (h *holeReader) nextData() (err error) {
	if h.data.from, err = h.seek(h.pos, unix.SEEK_DATA); err != nil {
		return err
	}
	h.data.to, err = h.seek(max(h.pos, h.data.from), unix.SEEK_HOLE)
	return err
}

// seek is lseek(2) for data and holes: the end when there is none, or none before the
// file grew, and off itself on file systems that know no holes.
func (h *holeReader) seek(off int64, whence int) (int64, error) {
	at, err := unix.Seek(int(h.f.Fd()), off, whence)
	switch {
	case err == unix.ENXIO || err == unix.EINVAL && whence == unix.SEEK_HOLE:
		return h.size, nil
	case err == unix.EINVAL:
		return off, nil
	}
	return min(at, h.size), os.NewSyscallError("lseek", err)
}
