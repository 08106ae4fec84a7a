package store

import (
	"bytes"
	"errors"
	"fmt"

	"lazyfs/codec"
)

// putFrame compresses p, writes it to free space and makes it frame n: p is what
// waited as d unless that was dropped meanwhile, or, without d, new. The caller
// holds gate.
func (s *Store) putFrame(n int64, p []byte, d *dirtyFrame) error {
	b := getBuffer(s.encodeRoom())
	defer putBuffer(b)
	stored, k, err := s.compress(b.b, p)
	if err != nil {
		return fmt.Errorf("compress frame %d: %w", n, err)
	}
	e, err := s.place(n, stored, k, len(p))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d != nil && s.frozen[n] != d {
		s.abandon(e)
		return nil
	}
	if d == nil && s.plainOf(n) > len(p) {
		s.abandon(e)
		return s.overlay(n, p)
	}
	if err := s.replace(n, e, d == nil); err != nil {
		s.abandon(e)
		return err
	}
	return nil
}

// overlay makes p the beginning of frame n, which a write has made longer since p was all
// of it. The caller holds mu.
func (s *Store) overlay(n int64, p []byte) error {
	d, err := s.writeFrame(n, false, 0)
	if err == nil {
		copy(d.plain.b, p)
	}
	return err
}

// replace makes e the entry of frame n. Where it is newer than what waits in memory
// it replaces that, too. The caller holds mu.
func (s *Store) replace(n int64, e entry, newer bool) error {
	if err := s.setEntry(n, e); err != nil {
		return err
	}
	if newer {
		s.drop(n)
		s.changes = true
	}
	if n == 0 {
		s.inline = inlineFrame{}
	}
	return nil
}

// abandon frees the place of a frame that is in no index. The caller holds mu.
func (s *Store) abandon(e entry) {
	if e.onDisk() {
		s.freeNow(e.extent())
	}
}

// minSaving is the part of a frame, one in so many bytes, that compression has to
// save, or the frame stays raw. An eighth cost zstd 3.4 % of a file of vectors, whose
// exponents alone have few values; less than a sixteenth gains nothing there.
const minSaving = 16

// compress makes the stored form of p in b behind room for the header. Frames
// that compression does not shrink by minSaving stay raw.
func (s *Store) compress(b, p []byte) ([]byte, kind, error) {
	if isZero(p) {
		return nil, kindZero, nil
	}
	return s.encode(b, p)
}

// newCodec is the codec of new frames, at this moment.
func (s *Store) newCodec() codec.Codec { return *s.codec.Load() }

// encode is compress for what is not to be left out when it is zero.
func (s *Store) encode(b, p []byte) ([]byte, kind, error) {
	room := b[frameHeadLen : frameHeadLen+len(p)-len(p)/minSaving]
	c := s.newCodec()
	n, err := c.Encode(room, p)
	switch {
	case err == nil:
		return b[:frameHeadLen+n], kind(c.ID()), nil
	case !errors.Is(err, codec.ErrShort):
		return nil, 0, err
	}
	n = copy(b[frameHeadLen:], p)
	return b[:frameHeadLen+n], kindRaw, nil
}

// place writes the frame that is stored in b to free space, of which zeros need none.
// The bytes that round it up to whole units are written, too.
func (s *Store) place(n int64, b []byte, k kind, plain int) (entry, error) {
	if k == kindZero {
		return zeroEntry, nil
	}
	length := roundUp(int64(len(b)), unit)
	off, gen, err := s.takePlace(length)
	if err != nil {
		return entry{}, err
	}
	sum := putFrameHead(b, s.idSum, k, n, gen)
	padded := b[:length]
	clear(padded[len(b):])
	if _, err := s.d.WriteAt(padded, off); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if off, err = s.putAgain(padded, off, err); err != nil {
			return entry{}, err
		}
	}
	return newEntry(off, len(b)-frameHeadLen, k, plain, sum), nil
}

// takePlace takes free space for n bytes, and returns where it lies and the generation that
// is to name what is written there.
func (s *Store) takePlace(n int64) (off int64, gen uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.loadSpace(); err != nil {
		return 0, 0, err
	}
	s.unsynced = true
	return s.take(n), s.gen + 1, nil
}

// isZero reports whether all of p is zero. Its first and last bytes, looked at
// first, decide most often.
func isZero(p []byte) bool {
	if len(p) == 0 || p[0] != 0 || p[len(p)-1] != 0 {
		return len(p) == 0
	}
	for len(p) >= len(zeros) {
		if [len(zeros)]byte(p) != zeros {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

var zeros [512]byte
