package store

import "fmt"

// Truncate makes the store size plain bytes long. What is cut off is given up;
// what comes new is a hole.
func (s *Store) Truncate(size int64) error {
	if size < 0 || size > MaxSize {
		return fmt.Errorf("truncate to %#x: %w", size, ErrTooLarge)
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if size == s.size {
		return nil
	}
	if err := s.resize(size); err != nil {
		return fmt.Errorf("truncate to %#x: %w", size, err)
	}
	return nil
}

// resize is Truncate to another size. The caller holds gate alone, and mu.
func (s *Store) resize(size int64) error {
	if size > 0 { // An empty store takes but a superblock.
		if err := s.reserveRecord(max(size, s.size)); err != nil {
			return err
		}
	}
	if size < s.size {
		if err := s.cut(size); err != nil {
			return err
		}
	}
	if size > s.size && size > inlineMax && (s.inline.data != nil || s.size <= inlineMax && s.dirty[0] != nil) {
		// Frame 0 may no longer lie in the superblock.
		if err := s.reserve(0); err != nil {
			return err
		}
	}
	s.size = size
	s.changes = true
	return nil
}

// cut gives up everything from plain offset size on.
func (s *Store) cut(size int64) error {
	last, err := s.edge(size, min(s.size, s.frameCount(size)<<s.shift))
	if err != nil {
		return err
	}
	if err := s.dropFrames(s.frameCount(size), maxFrameNumber+1); err != nil {
		return err
	}
	last.blank()
	return nil
}

// Punch makes n plain bytes from off on a hole: they read as zeros, and whole
// frames of them give their space back. The size stays.
func (s *Store) Punch(off, n int64) error {
	if off < 0 || n < 0 {
		return fmt.Errorf("punch %d bytes at %d: negative range", n, off)
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if off >= s.size {
		return nil
	}
	if err := s.punch(off, off+min(n, s.size-off)); err != nil {
		return fmt.Errorf("punch %d bytes at %#x: %w", n, off, err)
	}
	return nil
}

// punch is Punch of the bytes from from on and below to, which lie within the store. The
// caller holds gate alone, and mu.
func (s *Store) punch(from, to int64) error {
	if err := s.reserveRecord(s.size); err != nil {
		return err
	}
	first, last := s.frameCount(from), s.frameOf(to)
	if to == s.size {
		last = s.frameCount(to) // The last frame ends with the store.
	}
	if first > last { // Within one frame.
		part, err := s.edge(from, to)
		if err == nil {
			part.blank()
		}
		return err
	}
	head, err := s.edge(from, first<<s.shift)
	if err != nil {
		return err
	}
	tail, err := s.edge(min(last<<s.shift, to), to)
	if err != nil {
		return err
	}
	if err := s.dropFrames(first, last); err != nil {
		return err
	}
	head.blank()
	tail.blank()
	return nil
}

// An edge is a part of one frame that is to be zeroed. The frame is nil when all
// of it is zero already.
type edge struct {
	frame    *dirtyFrame
	from, to int64 // in the frame
}

// edge makes the frame that holds the bytes ready for blank, which can't fail
// then.
func (s *Store) edge(from, to int64) (edge, error) {
	if from >= to {
		return edge{}, nil
	}
	n := s.frameOf(from)
	if s.waiting(n) == nil {
		if e, err := s.entryOf(n); err != nil || e.kind() == kindHole || e.kind() == kindZero {
			return edge{}, err
		}
	}
	if s.dirty[n] == nil && s.size > inlineMax {
		if err := s.spare(n); err != nil {
			return edge{}, err
		}
	}
	d, err := s.dirtyFrame(n, false)
	in := from & int64(s.frameSize-1)
	return edge{d, in, in + to - from}, err
}

// blank zeroes the part. The caller holds mu.
func (e edge) blank() {
	if e.frame != nil {
		clear(e.frame.plain.b[e.from:e.to])
	}
}

// dropFrames makes whole frames holes. It fails before it changes anything, unless
// the index can be read no more.
func (s *Store) dropFrames(from, to int64) error {
	if from >= to {
		return nil
	}
	if s.idx.root != nil {
		if err := s.punchIndex(span{from, to}); err != nil {
			return err
		}
	}
	for n := range s.dirty {
		if from <= n && n < to {
			s.drop(n)
			s.changes = true
		}
	}
	if from == 0 && s.inline.data != nil {
		s.inline = inlineFrame{}
		s.changes = true
	}
	return nil
}

// punchIndex makes the frames of r holes in the index.
func (s *Store) punchIndex(r span) error {
	if err := s.loadSpace(); err != nil {
		return err
	}
	found, err := s.idx.occupied(r) // Damage leaves all as it was.
	if err != nil || found.from >= found.to {
		return err
	}
	if r.from > 0 || r.to <= maxFrameNumber { // Else nothing is left.
		if err := s.spareEdges(r, found); err != nil {
			return err
		}
	}
	s.changes = true
	return s.clearFrames(r.from, r.to)
}
