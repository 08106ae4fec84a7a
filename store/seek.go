package store

import (
	"io"
	"os"
)

// SeekData returns the offset of the first plain byte at or after off that does
// not lie in a hole, io.EOF when there is none.
func (s *Store) SeekData(off int64) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, os.ErrClosed
	}
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	n, err := s.nextData(s.frameOf(off))
	if err != nil || n < 0 {
		return 0, firstError(err, io.EOF)
	}
	return max(off, n<<s.shift), nil
}

// SeekHole returns the offset of the first plain byte at or after off that lies
// in a hole: Size when only the end is left, io.EOF when off is at or past it.
func (s *Store) SeekHole(off int64) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, os.ErrClosed
	}
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	n := s.frameOf(off)
	for end := s.frameCount(s.size); n < end; n++ {
		e, err := s.entryOf(n)
		if err != nil {
			return 0, s.blame(err, n)
		}
		if e.kind() == kindHole && s.waiting(n) == nil {
			break
		}
	}
	return min(max(off, n<<s.shift), s.size), nil
}

// nextData returns the first frame from n on that is no hole, -1 when none is.
func (s *Store) nextData(n int64) (int64, error) {
	found := int64(-1)
	end := s.frameCount(s.size)
	if n == 0 && s.inline.data != nil {
		return 0, nil
	}
	err := s.idx.scan(n, end, func(frame int64, _ entry) bool {
		found = frame
		return false
	})
	for _, frames := range []map[int64]*dirtyFrame{s.dirty, s.frozen} {
		for frame := range frames {
			if frame >= n && (found < 0 || frame < found) {
				found = frame
			}
		}
	}
	return found, s.blame(err, n)
}
