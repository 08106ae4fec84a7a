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

	// Progress, when not nil, is called now and then, never twice at once, with
	// the plain bytes packed and the stored bytes written until then.
	Progress func(plain, stored int64)
}

// packChunk is the number of plain bytes that a worker takes at a time, at least
// one frame.
const packChunk = 256 << 10

// Pack writes a new store with the bytes of r into the empty file f, durably. f
// stays the caller's, and is no store when Pack fails. When r is a regular file
// or the Reader of Pages its holes become holes, as far as they cover frames.
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
	src := newHoleReader(r, int64(sb.frameSize()))
	if src.size > MaxSize {
		return Info{}, fmt.Errorf("source is %#x bytes: %w", src.size, ErrTooLarge)
	}
	w, err := newBuilder(f, sb)
	if err != nil {
		return Info{}, err
	}
	p := &packer{w: w, o: o, src: src}
	p.chunk = max(packChunk, w.s.frameSize)
	size, err := p.run(ctx)
	if err != nil {
		return Info{}, firstError(err, w.s.Discard())
	}
	return w.finish(size)
}

// A packer compresses chunks of a reader in parallel. Each worker reads a chunk and
// compresses it while it is in the core's cache; whoever has the one whose turn it is
// writes it and those behind it that are ready.
type packer struct {
	w     *builder
	o     PackOptions
	chunk int
	free  chan *packJob // as many as may be under way beside those that are; nil for a new one

	reading sync.Mutex // guards what follows
	src     *holeReader
	first   *packJob // a chunk that is read and waits for a worker
	chunks  int      // read
	size    int64    // plain bytes until there
	end     bool

	mu      sync.Mutex // guards what follows
	ready   []*packJob // compressed and not written, by their numbers modulo the length
	turn    int        // the next chunk to write
	writing bool
	stored  int64 // bytes written
}

// A packJob is one chunk on its way.
type packJob struct {
	number int
	off    int64
	plain  []byte
	n      int // bytes in plain
	batch  batch
}

func (p *packer) run(ctx context.Context) (int64, error) {
	first := &packJob{plain: make([]byte, p.chunk)}
	if err := p.read(first); err != nil {
		return 0, err
	}
	if p.end && p.size <= int64(p.w.s.frameSize) {
		return p.size, p.packSmall(first)
	}
	workers := p.o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	p.ready = make([]*packJob, 2*workers)
	p.free = make(chan *packJob, len(p.ready))
	for range len(p.ready) - 1 {
		p.free <- nil
	}
	p.first = first
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error { return p.work(ctx) })
	}
	err := g.Wait()
	return p.size, err
}

// packSmall packs one frame at most, into the superblock if it fits there.
func (p *packer) packSmall(job *packJob) error {
	s, plain := p.w.s, job.plain[:job.n]
	if len(plain) == 0 { // There is nothing, or a hole.
		return nil
	}
	inline, err := s.compressInline(plain, p.size)
	if err != nil || inline.data != nil {
		s.inline = inline
		return err
	}
	if err := s.compressBatch(&job.batch, plain, job.off); err != nil {
		return err
	}
	return p.w.append(&job.batch)
}

// read reads the next chunk, which may be empty at the end.
func (p *packer) read(job *packJob) (err error) {
	job.off, job.n, err = p.src.next(job.plain)
	if err != nil && err != io.EOF {
		return err
	}
	job.number = p.chunks
	p.chunks++
	p.size, p.end = job.off+int64(job.n), err == io.EOF
	return nil
}

// work reads and compresses chunks until the end.
func (p *packer) work(ctx context.Context) error {
	for {
		job, err := p.next(ctx)
		if job == nil || err != nil {
			return err
		}
		t := &job.batch
		t.clear()
		if err := p.w.s.compressBatch(t, job.plain[:job.n], job.off); err != nil {
			return err
		}
		if err := p.deliver(job); err != nil {
			return err
		}
	}
}

// next reads a chunk; none at the end, or when ctx ends.
func (p *packer) next(ctx context.Context) (*packJob, error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	if job := p.first; job != nil {
		p.first = nil
		return job, nil
	}
	if p.end {
		return nil, nil
	}
	select {
	case job := <-p.free:
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if job == nil {
			job = &packJob{plain: make([]byte, p.chunk)}
		}
		return job, p.read(job)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
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
		if k == kindZero {
			t.addZero(n)
		} else {
			t.add(n, stored, k, len(p), putFrameHead(stored, s.idSum, k, n, s.gen+1))
		}
		plain = plain[len(p):]
	}
	return nil
}

// deliver hands a compressed chunk to the builder when it is its turn, or to the
// worker that writes the one before it.
func (p *packer) deliver(job *packJob) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready[job.number%len(p.ready)] = job
	if p.writing {
		return nil
	}
	p.writing = true
	for {
		place := &p.ready[p.turn%len(p.ready)]
		job := *place
		if job == nil {
			p.writing = false
			return nil
		}
		*place = nil
		p.turn++
		p.mu.Unlock()
		err := p.write(job)
		p.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// write hands a chunk whose turn it is to the builder.
func (p *packer) write(job *packJob) error {
	if err := p.w.append(&job.batch); err != nil {
		return err
	}
	p.stored += int64(len(job.batch.stored))
	if p.o.Progress != nil {
		p.o.Progress(job.off+int64(job.n), p.stored)
	}
	p.free <- job
	return nil
}
