package store

import (
	"fmt"
	"io"
	"os"
)

// MaxReadFrames is how many frames one ReadFrames reads at most.
const MaxReadFrames = 64

// ReadFrames is ReadFrame for the frames from n on that fill dst, whole frames and
// no more than MaxReadFrames. Those that lie side by side in the file it reads from
// there at once. It returns how many it read before the error, and a bit in zeros
// for each that is zero: its part of dst is as it was then.
func (s *Store) ReadFrames(n int64, dst []byte) (done int, zeros uint64, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	count := len(dst) / s.frameSize
	switch {
	case s.closed:
		return 0, 0, os.ErrClosed
	case count > MaxReadFrames || len(dst)%s.frameSize != 0:
		return 0, 0, fmt.Errorf("read frames into %d bytes, want up to %d of %d", len(dst), MaxReadFrames, s.frameSize)
	case n < 0 || n > s.frameCount(s.size)-int64(count):
		return 0, 0, fmt.Errorf("read frames %d to %d of %d: %w", n, n+int64(count), s.frameCount(s.size), io.EOF)
	}
	for done < count {
		some, zero, err := s.readSomeFrames(n+int64(done), dst[done*s.frameSize:])
		if zero {
			zeros |= 1 << done
		}
		if done += some; err != nil {
			return done, zeros, err
		}
	}
	return done, zeros, nil
}

// readSomeFrames fills the beginning of dst with frame n, and those behind it that
// come with it, or says that it is zero. The caller holds mu.
func (s *Store) readSomeFrames(n int64, dst []byte) (done int, zero bool, err error) {
	if d := s.waiting(n); d != nil {
		copy(dst[:s.frameSize], d.plain.b)
		return 1, false, nil
	}
	e, err := s.entryOf(n)
	switch {
	case err != nil:
		return 0, false, s.blame(err, n)
	case e.kind() == kindHole || e.kind() == kindZero:
		return 1, true, nil
	case e.onDisk() && len(dst) >= 2*s.frameSize:
		got, err := s.readRun(dst, n, e)
		return got / s.frameSize, false, err
	}
	if err := s.decodeFrame(n, e, dst[:s.frameSize]); err != nil {
		return 0, false, err
	}
	return 1, false, nil
}
