package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// OpenBytes opens the store whose whole file is b, to read. b belongs to the store
// until that is closed. Nothing is pinned: where a writer was at work while b was read
// some of it may be newer than the rest. So everything is checked at once, both
// superblocks have to be whole, and what may have a log is refused: in a store that was
// closed there is no room for one, most often.
func OpenBytes(b []byte, o Options) (*Store, error) {
	if o.Writable {
		return nil, fmt.Errorf("open store in memory: %w", ErrReadOnly)
	}
	s, err := openBytes(b, o)
	if err != nil {
		return nil, fmt.Errorf("open store in memory: %w", err)
	}
	return s, nil
}

func openBytes(b []byte, o Options) (*Store, error) {
	c, err := chooseSuperblock(b[:min(len(b), dataStart)], int64(len(b)))
	if err = firstError(err, c.other); err != nil {
		return nil, err
	}
	if c.sb.mayHaveLog(int64(len(b))) {
		return nil, errors.New("it may have a log")
	}
	s, err := openDisk(bytesDisk{r: bytes.NewReader(b)}, nil, o)
	if err != nil {
		return nil, err
	}
	return s, s.checkFrames(b)
}

// checkFrames checks all frames of the store whose file is b, and its index.
func (s *Store) checkFrames(b []byte) error {
	var bad error
	err := s.idx.scan(0, s.frameCount(s.size), func(n int64, e entry) bool {
		if bad = checkFrameEntry(e, n, s.frameSize, int64(len(b))); bad == nil && e.onDisk() {
			end := e.off() + int64(e.stored())
			if end > int64(len(b)) {
				bad = readError(io.EOF, framePart(e.kind(), n), e.off())
			} else {
				bad = verifyFrame(b[e.off():end], e, n, s.idSum)
			}
		}
		return bad == nil
	})
	return firstError(bad, err)
}

// bytesDisk is a disk in memory that can only be read.
type bytesDisk struct {
	disk
	r *bytes.Reader
}

func (d bytesDisk) ReadAt(p []byte, off int64) (int, error) { return d.r.ReadAt(p, off) }

func (d bytesDisk) Size() (int64, error) { return d.r.Size(), nil }

func (d bytesDisk) Blocks() (int64, error) { return d.r.Size(), nil }
