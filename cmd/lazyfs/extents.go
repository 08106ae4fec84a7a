package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A sparse is plain data with holes: a store, or an ordinary file.
type sparse interface {
	io.ReaderAt
	Size() int64
	SeekData(off int64) (int64, error) // the first data at or after off; io.EOF when none
	SeekHole(off int64) (int64, error) // the first hole at or after off; Size when none
}

// chunkSize is how much one worker reads at once: many frames, so that reads
// of neighbouring frames are merged.
const chunkSize = 1 << 20

// A chunk is a part of plain data that is read at once.
type chunk struct{ off, n int64 }

// dataChunks yields the parts of src that are not holes, none larger than
// chunkSize and each inside one aligned chunk. It stops at the first error.
func dataChunks(src sparse) iter.Seq2[chunk, error] {
	return func(yield func(chunk, error) bool) {
		for at := int64(0); at < src.Size(); {
			data, err := src.SeekData(at)
			if errors.Is(err, io.EOF) {
				return
			}
			var hole int64
			if err == nil {
				hole, err = src.SeekHole(data)
			}
			if err != nil {
				yield(chunk{}, err)
				return
			}
			for at = data; at < hole; {
				n := min(chunkSize-at%chunkSize, hole-at)
				if !yield(chunk{at, n}, nil) {
					return
				}
				at += n
			}
		}
	}
}

// restore writes all of src into the empty file dst with jobs workers, leaving
// its holes holes. report is called with the plain bytes written so far, by one worker
// at a time.
func restore(ctx context.Context, dst *os.File, src sparse, jobs int, report func(done int64)) error {
	if err := dst.Truncate(src.Size()); err != nil {
		return err
	}
	todo := make(chan chunk)
	var mu sync.Mutex  // guards furthest; held while report is called
	var furthest int64 // Chunks come nearly in order, so that their end tells how much is done.
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(todo)
		for c, err := range dataChunks(src) {
			if err != nil {
				return err
			}
			select {
			case todo <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range jobs {
		g.Go(func() error {
			buf := make([]byte, min(chunkSize, src.Size()))
			for c := range todo {
				if err := moveChunk(dst, src, c, buf[:c.n]); err != nil {
					return err
				}
				mu.Lock()
				furthest = max(furthest, c.off+c.n)
				report(furthest)
				mu.Unlock()
			}
			return nil
		})
	}
	return g.Wait()
}

func moveChunk(dst *os.File, src sparse, c chunk, buf []byte) error {
	if err := readFull(src, buf, c.off); err != nil {
		return err
	}
	_, err := dst.WriteAt(buf, c.off)
	return err
}

// readFull fills buf from off; io.ReaderAt may give io.EOF with the last byte.
func readFull(src io.ReaderAt, buf []byte, off int64) error {
	n, err := src.ReadAt(buf, off)
	if n == len(buf) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// stream writes n bytes of src from off to w, in order, and reads ahead with
// jobs workers.
func stream(ctx context.Context, w io.Writer, src io.ReaderAt, off, n int64, jobs int, report func(done int64)) error {
	type result struct {
		buf []byte
		err error
	}
	// A chunk's place in the order is a channel that will hold its bytes.
	order := make(chan chan result, jobs)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(order)
		for at, end := off, off+n; at < end; {
			size := min(chunkSize-at%chunkSize, end-at)
			place := make(chan result, 1)
			select {
			case order <- place:
			case <-ctx.Done():
				return
			}
			go func(at int64) {
				buf := make([]byte, size)
				place <- result{buf, readFull(src, buf, at)}
			}(at)
			at += size
		}
	}()
	var done int64
	for place := range order {
		r := <-place
		if r.err != nil {
			return r.err
		}
		if _, err := w.Write(r.buf); err != nil {
			return err
		}
		done += int64(len(r.buf))
		report(done)
	}
	return ctx.Err()
}

// A sparseFile is an ordinary file as plain data with holes, up to the size that it had
// when it was opened.
type sparseFile struct {
	*os.File
	size int64
}

func (f sparseFile) Size() int64 { return f.size }

func (f sparseFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if err == io.EOF {
		err = f.ended()
	}
	return n, err
}

func (f sparseFile) SeekData(off int64) (int64, error) {
	at, err := f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // lseek(2): there is no data at or after off.
		return 0, f.ended()
	case err == nil && at >= f.size: // It has grown.
		return 0, io.EOF
	}
	return at, err
}

func (f sparseFile) SeekHole(off int64) (int64, error) {
	at, err := f.Seek(off, unix.SEEK_HOLE)
	return min(at, f.size), err
}

// ended is io.EOF, unless the file has shrunk: what is missing then is no hole.
func (f sparseFile) ended() error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case info.Size() < f.size:
		return fmt.Errorf("%s: ends at %#x, at %#x when it was opened", f.Name(), info.Size(), f.size)
	}
	return io.EOF
}
