package store

import (
	"fmt"
	"hash/crc32"
	"os"
)

// A Summary is what the newest generation of a store says of itself.
type Summary struct {
	Size       int64 // plain bytes
	FrameSize  int   // plain bytes of a frame
	Generation uint64
}

// Probe reads a store's summary without opening it for good: the first block and,
// where a writer is or was at work, its log. f stays the caller's. Errors are
// those of Open.
func Probe(f *os.File) (Summary, error) {
	s := newStore(fileDisk{f}, nil)
	fileSize, err := s.readSuperblocks()
	if err != nil {
		return Summary{}, fmt.Errorf("probe store %s: %w", f.Name(), withPath(err, f.Name()))
	}
	s.idSum = crc32.Update(0, castagnoli, s.sb.id[:])
	sum := Summary{s.sb.size, s.sb.frameSize(), s.sb.gen}
	commits, err := readLog(s.d, fileSize, &s.sb, s.idSum)
	if err != nil {
		return Summary{}, fmt.Errorf("probe store %s: %w", f.Name(), withPath(err, f.Name()))
	}
	if n := len(commits); n > 0 {
		sum.Size, sum.Generation = commits[n-1].size, commits[n-1].gen
	}
	return sum, nil
}
