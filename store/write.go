package store

import "fmt"

// A dirtyFrame is a written frame that is not compressed yet: FrameSize bytes,
// zero past the end of the store. They change under mu only, and not at all once
// the frame is frozen.
type dirtyFrame struct{ plain *buffer }

// waiting returns frame n if it waits in memory. The caller holds mu.
func (s *Store) waiting(n int64) *dirtyFrame {
	if d := s.dirty[n]; d != nil {
		return d
	}
	return s.frozen[n]
}

// WriteAt writes plain bytes (io.WriterAt); the store grows as needed. It is
// whole or nothing with regard to errors of a single frame only.
func (s *Store) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > MaxSize-int64(len(p)) {
		return 0, fmt.Errorf("write of %d bytes at %#x: %w", len(p), off, ErrTooLarge)
	}
	done := 0
	for done < len(p) {
		n, err := s.writeFrames(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
		if err := s.makeRoom(); err != nil {
			return done, err
		}
	}
	return done, nil
}

// writeFrames writes the beginning of p, as much as may wait in memory.
func (s *Store) writeFrames(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) && (done == 0 || s.dirtyBytes <= s.dirtyLimit) {
		at := off + int64(done)
		in := int(at & int64(s.frameSize-1))
		part := p[done:min(len(p), done+s.frameSize-in)]
		d, err := s.writeFrame(s.frameOf(at), len(part) == s.frameSize, at+int64(len(part)))
		if err != nil {
			return done, err
		}
		copy(d.plain.b[in:], part)
		done += len(part)
		s.size = max(s.size, at+int64(len(part)))
	}
	s.flushBehind()
	return done, nil
}

// writeFrame returns frame n for a write up to plain offset end, for which there
// is room on the disk. The caller holds mu.
func (s *Store) writeFrame(n int64, blank bool, end int64) (*dirtyFrame, error) {
	// A store this small lies in its first block, which is there.
	if (s.dirty[n] == nil || s.size <= inlineMax) && max(s.size, end) > inlineMax {
		if err := s.reserve(n); err != nil {
			return nil, err
		}
	}
	return s.dirtyFrame(n, blank)
}

// dirtyFrame returns frame n for writing: as it is, or blank when all of it will
// be overwritten. The caller holds mu.
func (s *Store) dirtyFrame(n int64, blank bool) (*dirtyFrame, error) {
	if d := s.dirty[n]; d != nil {
		return d, nil
	}
	b := getBuffer(s.frameSize)
	if !blank {
		if err := s.fillFrame(n, b.b); err != nil {
			putBuffer(b)
			return nil, err
		}
	}
	d := &dirtyFrame{plain: b}
	s.dirty[n] = d
	s.queue = append(s.queue, n)
	s.dirtyBytes += int64(s.frameSize)
	s.changes = true
	return d, nil
}

// fillFrame fills dst with frame n as it is now, zeros behind the store's end.
func (s *Store) fillFrame(n int64, dst []byte) error {
	if d := s.frozen[n]; d != nil {
		copy(dst, d.plain.b)
		return nil
	}
	e, err := s.entryOf(n)
	if err != nil {
		return s.blame(err, n)
	}
	if !e.onDisk() && e.kind() != kindInline {
		clear(dst)
		return nil
	}
	return s.decodeFrame(n, e, dst)
}

// WriteFrame replaces frame n by p, which is FrameSize bytes long, or ends where
// the store ends if it is the last one: what lies behind that is left out. It
// compresses in the calling goroutine, so that several of them use several cores.
func (s *Store) WriteFrame(n int64, p []byte) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	p, waits, err := s.acceptFrame(n, p)
	if waits || err != nil {
		return err
	}
	defer s.unbook(1)
	return s.putFrame(n, p, nil)
}

// acceptFrame books room for frame n, unless p waits in memory, and returns what of p
// lies within the store.
func (s *Store) acceptFrame(n int64, p []byte) (within []byte, waits bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if within, err = s.within(n, p); err != nil {
		return nil, false, err
	}
	if waits, err = s.keepFrame(n, within); waits || err != nil {
		return nil, waits, err
	}
	return within, false, s.book(n)
}

// keepFrame lets p wait in memory as frame n where it may fit into the superblock,
// which only a commit can tell: as frame 0 of a store that has no other. The caller
// holds mu.
func (s *Store) keepFrame(n int64, p []byte) (waits bool, err error) {
	if s.size > int64(s.frameSize) {
		return false, nil
	}
	d, err := s.writeFrame(n, true, n<<s.shift+int64(len(p)))
	if err != nil {
		return false, err
	}
	clear(d.plain.b[copy(d.plain.b, p):])
	return true, nil
}

// within returns what of p, which is to replace frame n, lies within the store. The
// caller holds mu.
func (s *Store) within(n int64, p []byte) ([]byte, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	want := s.plainOf(n)
	if want == 0 || len(p) != want && len(p) != s.frameSize {
		return nil, fmt.Errorf("write frame %d of %d with %d bytes, want %d", n, s.frameCount(s.size), len(p), want)
	}
	return p[:want], nil
}

// plainOf is the number of bytes of frame n that lie within the store. The caller
// holds mu.
func (s *Store) plainOf(n int64) int {
	if n < 0 || n >= s.frameCount(s.size) {
		return 0
	}
	return int(min(int64(s.frameSize), s.size-n<<s.shift))
}

// drop forgets that frame n waits in memory, and that an older form of it is on
// its way to the file. The caller holds mu.
func (s *Store) drop(n int64) {
	if s.frozen[n] != nil {
		delete(s.frozen, n)
		s.booked++ // thaw ends it.
	}
	if d := s.dirty[n]; d != nil {
		delete(s.dirty, n)
		putBuffer(d.plain)
		s.dirtyBytes -= int64(s.frameSize)
	}
}
