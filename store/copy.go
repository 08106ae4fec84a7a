package store

import (
	"context"
	"os"
)

// Copy writes the generation that src sees, with the frames as they are stored,
// into the empty file f, durably. f stays the caller's, and is no store when Copy
// fails. progress, when not nil, is called now and then with the plain bytes
// passed and the size. src may be in use; a writer's uncommitted writes are left
// out, and its commits wait meanwhile, as do writes that come behind one that waits.
func Copy(ctx context.Context, f *os.File, src *Store, progress func(done, total int64)) error {
	src.gate.RLock() // No commit gives up what is copied.
	defer src.gate.RUnlock()
	if err := copyStore(ctx, f, src, progress); err != nil {
		return during("copy", src.Path(), err)
	}
	return nil
}

func copyStore(ctx context.Context, f *os.File, src *Store, progress func(done, total int64)) error {
	src, err := src.committedView()
	if err != nil {
		return err
	}
	sb := src.sb
	// The copy has its source's id, on which the frames' checksums depend.
	sb.size, sb.depth, sb.root, sb.frames, sb.stored = 0, 0, entry{}, 0, 0
	sb.inline, sb.inlineKind, sb.inlinePlain = nil, kindHole, 0
	sb.gen, sb.end, sb.logOff, sb.logSeed, sb.copied = src.gen, dataStart, dataStart, newSeed(), false
	w, err := newBuilder(f, &sb)
	if err != nil {
		return err
	}
	if err := src.copyFrames(ctx, w, progress); err != nil {
		return firstError(err, w.s.Discard())
	}
	w.s.inline = src.inline
	_, err = w.finish(src.size)
	return err
}

// committedView returns a Store that sees the newest generation of s, s itself if that
// does not change. It is good as long as the caller holds gate.
func (s *Store) committedView() (*Store, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.closed:
		return nil, os.ErrClosed
	case !s.writable:
		return s, nil
	}
	return openDisk(s.d, nil, Options{})
}

func (s *Store) copyFrames(ctx context.Context, w *builder, progress func(done, total int64)) error {
	t := &batch{}
	var failed error
	flush := func(n int64) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		err := w.append(t)
		t.clear()
		if progress != nil {
			progress(min(n<<s.shift, s.size), s.size)
		}
		return err
	}
	err := s.idx.scan(0, s.frameCount(s.size), func(n int64, e entry) bool {
		failed = s.copyFrame(t, n, e)
		if failed == nil && t.full() {
			failed = flush(n)
		}
		return failed == nil
	})
	if err = firstError(failed, s.blame(err, 0)); err != nil {
		return err
	}
	return flush(s.frameCount(s.size))
}

// copyFrame adds frame n as it is stored to t.
func (s *Store) copyFrame(t *batch, n int64, e entry) error {
	if !e.onDisk() {
		t.addZero(n)
		return nil
	}
	b := getBuffer(int(e.extent().len))
	defer putBuffer(b)
	raw := b.b[:e.extent().len]
	if err := s.readStored(raw, n, e); err != nil {
		return err
	}
	raw = raw[:e.stored()]
	if err := verifyFrame(raw, e, n, s.idSum); err != nil {
		return s.blame(err, n)
	}
	t.add(n, raw, e.kind(), e.plain(), e.sum())
	return nil
}
