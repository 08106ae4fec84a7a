package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// PackOptions adjust Pack. The zero value is ready to use.
type PackOptions struct {
	CreateOptions

	// Workers is the number of goroutines that compress. Zero means GOMAXPROCS.
	Workers int

	// Progress, when not nil, is called now and then, from one goroutine, with
	// the plain bytes read and the stored bytes written until then.
	Progress func(plain, stored int64)
}

// packChunk is the number of plain bytes that a worker takes at a time, at least
// one frame.
const packChunk = 256 << 10

// Pack writes a new store with the bytes of r into the empty file f, durably. f
// stays the caller's, and is no store when Pack fails. When r is a regular file
// its holes become holes, as far as they cover frames.
func Pack(ctx context.Context, f *os.File, r io.Reader, o PackOptions) (Info, error) {
	info, err := pack(ctx, f, r, o)
	if err != nil {
		return Info{}, fmt.Errorf("pack %s: %w", f.Name(), err)
	}
	return info, nil
}

func pack(ctx context.Context, f *os.File, r io.Reader, o PackOptions) (Info, error) {
	sb, err := newSuperblock(o.CreateOptions)
	if err != nil {
		return Info{}, err
	}
	w, err := newBuilder(f, sb)
	if err != nil {
		return Info{}, err
	}
	p := &packer{w: w, src: newHoleReader(r, int64(w.s.frameSize)), o: o}
	p.chunk = max(packChunk, w.s.frameSize)
	size, err := p.run(ctx)
	if err != nil {
		return Info{}, firstError(err, w.s.Discard())
	}
	return w.finish(size)
}

// A packer moves chunks from a reader through workers, in parallel, to the
// builder, in order.
type packer struct {
	w     *builder
	src   *holeReader
	o     PackOptions
	chunk int
	plain sync.Pool // *buffer of chunk bytes
	done  sync.Pool // *batch
	read  int64
	wrote int64
}

// A packJob is one chunk on its way. result is closed when batch is ready.
type packJob struct {
	off    int64
	plain  *buffer
	n      int // bytes in plain
	batch  *batch
	result chan struct{}
}

func (p *packer) run(ctx context.Context) (size int64, err error) {
	first, err := p.readJob()
	if err != nil && err != io.EOF {
		return 0, err
	}
	if err == io.EOF && first.off+int64(first.n) <= int64(p.w.s.frameSize) {
		return p.packSmall(first)
	}
	workers := p.o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	g, ctx := errgroup.WithContext(ctx)
	todo := make(chan *packJob)
	ordered := make(chan *packJob, 2*workers)
	g.Go(func() error {
		defer close(todo)
		defer close(ordered)
		size, err = p.feed(ctx, first, err, ordered, todo)
		return err
	})
	for range workers {
		g.Go(func() error { return p.work(ctx, todo) })
	}
	g.Go(func() error { return p.collect(ctx, ordered) })
	return size, g.Wait()
}

// packSmall packs one frame at most, into the superblock if it fits there.
func (p *packer) packSmall(job *packJob) (int64, error) {
	s, plain, size := p.w.s, job.plain.b[:job.n], job.off+int64(job.n)
	if size == 0 {
		return 0, nil
	}
	inline, err := s.compressInline(plain, size)
	if err != nil || inline.data != nil {
		s.inline = inline
		return size, err
	}
	t := &batch{}
	if err := s.compressBatch(t, plain, job.off); err != nil {
		return 0, err
	}
	return size, p.w.append(t)
}

// feed reads chunks until the end, and returns the plain size.
func (p *packer) feed(ctx context.Context, job *packJob, err error, ordered, todo chan<- *packJob) (int64, error) {
	for {
		if err != nil && err != io.EOF {
			return 0, err
		}
		size := job.off + int64(job.n)
		for _, to := range []chan<- *packJob{ordered, todo} {
			select {
			case to <- job:
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		}
		if err == io.EOF {
			return size, nil
		}
		job, err = p.readJob()
	}
}

// readJob reads the next chunk; with io.EOF comes the last one, which may be
// empty.
func (p *packer) readJob() (*packJob, error) {
	b, ok := p.plain.Get().(*buffer)
	if !ok {
		b = &buffer{make([]byte, p.chunk)}
	}
	job := &packJob{plain: b, result: make(chan struct{})}
	var err error
	job.off, job.n, err = p.src.next(b.b)
	return job, err
}

// work compresses chunks.
func (p *packer) work(ctx context.Context, todo <-chan *packJob) error {
	for job := range todo {
		t, ok := p.done.Get().(*batch)
		if !ok {
			t = &batch{stored: make([]byte, 0, p.chunk+p.chunk/8)}
		}
		t.stored, t.frames = t.stored[:0], t.frames[:0]
		if err := p.w.s.compressBatch(t, job.plain.b[:job.n], job.off); err != nil {
			return err
		}
		job.batch = t
		close(job.result)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// compressBatch adds the frames of plain, which begins at offset off, to t.
func (s *Store) compressBatch(t *batch, plain []byte, off int64) error {
	b := getBuffer(s.encodeRoom())
	defer putBuffer(b)
	for n := s.frameOf(off); len(plain) > 0; n++ {
		p := plain[:min(len(plain), s.frameSize)]
		stored, k, err := s.compress(b.b, p)
		if err != nil {
			return fmt.Errorf("compress frame %d: %w", n, err)
		}
		var sum uint32
		if k != kindZero {
			sum = putFrameHead(stored, s.idSum, k, n, s.gen+1)
		}
		t.add(n, stored, k, len(p), sum)
		plain = plain[len(p):]
	}
	return nil
}

// collect hands finished batches to the builder in order.
func (p *packer) collect(ctx context.Context, ordered <-chan *packJob) error {
	for job := range ordered {
		select {
		case <-job.result:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := p.w.append(job.batch); err != nil {
			return err
		}
		p.read = job.off + int64(job.n)
		p.wrote += int64(len(job.batch.stored))
		p.plain.Put(job.plain)
		p.done.Put(job.batch)
		if p.o.Progress != nil {
			p.o.Progress(p.read, p.wrote)
		}
	}
	return nil
}
