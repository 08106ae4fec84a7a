package store

import (
	"os"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// makeRoom compresses frames until no more wait than may. It does so in the caller,
// which slows writers down to what the codec can do.
func (s *Store) makeRoom() error { return s.flushTo(s.dirtyLimit) }

// flushBehind has half of what may wait compressed while the writer goes on. What
// fails is left to makeRoom or a commit, which try it again. The caller holds mu.
func (s *Store) flushBehind() {
	if s.flushing || s.dirtyBytes <= s.dirtyLimit/2 {
		return
	}
	s.flushing = true
	s.flusher.Go(func() {
		s.flushTo(s.dirtyLimit / 2)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flushing = false
	})
}

// flushTo compresses the frames that have waited longest until no more than limit
// bytes wait.
func (s *Store) flushTo(limit int64) error {
	for {
		n, d := s.oldestDirty(limit)
		if d == nil {
			return nil
		}
		if err := s.flushFrame(n, d); err != nil {
			return err
		}
	}
}

// oldestDirty takes the next frame to compress off the queue, nil when no more than
// limit bytes wait. The frame itself goes on waiting.
func (s *Store) oldestDirty(limit int64) (int64, *dirtyFrame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for left := len(s.queue); left > 0 && s.dirtyBytes > limit && !s.closed; left-- {
		n := s.queue[0]
		s.queue = s.queue[1:]
		switch d := s.dirty[n]; {
		case d == nil:
		case s.frozen[n] != nil, // An older form of it is on its way to the file.
			n == 0 && s.size <= inlineMax: // It was accepted without room: the superblock may hold it.
			s.queue = append(s.queue, n)
		default:
			return n, d
		}
	}
	return 0, nil
}

// flushFrame puts the waiting frame d into the file.
func (s *Store) flushFrame(n int64, d *dirtyFrame) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	plain, err := s.freezeFrame(n, d)
	if plain == nil || err != nil {
		return err
	}
	err = s.putFrame(n, plain, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thaw(n, d, err)
	return err
}

// freezeFrame freezes the waiting frame d, number n: a write that comes while it is
// compressed makes a new one of it. It returns the plain bytes, nil where a commit, Truncate
// or another writer was faster.
func (s *Store) freezeFrame(n int64, d *dirtyFrame) (plain []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, os.ErrClosed // The file may have another writer.
	case s.dirty[n] != d || s.frozen[n] != nil:
		return nil, nil
	}
	delete(s.dirty, n)
	s.frozen[n] = d
	return d.plain.b[:min(int64(s.frameSize), s.size-n<<s.shift)], nil
}

// thaw ends the freezing of d, a form of frame n: it is in the file, or dropped, or,
// after an error, waits again. The caller holds mu.
func (s *Store) thaw(n int64, d *dirtyFrame, err error) {
	dropped := s.frozen[n] != d
	if dropped {
		s.booked--
	} else {
		delete(s.frozen, n)
	}
	if err != nil && !dropped && s.dirty[n] == nil {
		s.dirty[n] = d
		s.queue = append(s.queue, n)
		s.changes = true
		return
	}
	s.dirtyBytes -= int64(s.frameSize)
	putBuffer(d.plain)
}

// flushFrozen compresses the frozen frames on all cores, one of which is the
// caller's: a commit of one frame waits for no other goroutine. Those that can't be
// written wait again.
func (s *Store) flushFrozen(state frozenState) error {
	var next atomic.Int64
	work := func() (err error) {
		for i := next.Add(1) - 1; i < int64(len(state.frames)); i = next.Add(1) - 1 {
			err = firstError(err, s.flushOne(state.frames[i], state.size))
		}
		return err
	}
	var g errgroup.Group
	for range min(runtime.GOMAXPROCS(0), len(state.frames)) - 1 {
		g.Go(work)
	}
	return firstError(work(), g.Wait())
}

// flushOne compresses the frozen frame n of a store of size plain bytes.
func (s *Store) flushOne(n, size int64) error {
	s.mu.RLock()
	d := s.frozen[n]
	s.mu.RUnlock()
	plain := d.plain.b[:min(int64(s.frameSize), size-n<<s.shift)]
	err := s.putFrozen(n, d, plain, size)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thaw(n, d, err)
	return err
}

// putFrozen puts a frame where it belongs: into the superblock if it is the only
// one and small enough, otherwise into the file.
func (s *Store) putFrozen(n int64, d *dirtyFrame, plain []byte, size int64) error {
	if n > 0 {
		return s.putFrame(n, plain, d)
	}
	inline, err := s.compressInline(plain, size)
	if err != nil {
		return err
	}
	if inline.data == nil {
		if err := s.putFrame(n, plain, d); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inline = inline
	if inline.data == nil || s.idx.root == nil {
		return nil
	}
	if err := s.loadSpace(); err != nil {
		return err
	}
	return s.clearFrames(0, 1)
}

// compressInline returns frame 0 as the superblock can hold it, without data
// when it can't.
func (s *Store) compressInline(plain []byte, size int64) (inlineFrame, error) {
	if size > int64(s.frameSize) {
		return inlineFrame{}, nil
	}
	b := getBuffer(s.encodeRoom())
	defer putBuffer(b)
	stored, k, err := s.encode(b.b, plain)
	if err != nil || len(stored) > frameHeadLen+inlineMax {
		return inlineFrame{}, err
	}
	data := slices.Clone(stored[frameHeadLen:])
	return inlineFrame{data: data, kind: k, plain: len(plain), version: nextStore.Add(1)}, nil
}
