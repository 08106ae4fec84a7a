package store

import (
	"errors"
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
	s := newStore(fileDisk{f}, f)
	fileSize, err := s.readSuperblocks()
	if err != nil {
		return Summary{}, during("probe store", f.Name(), err)
	}
	s.idSum = crc32.Update(0, castagnoli, s.sb.id[:])
	sum := summarize(&s.sb)
	commits, err := readLog(s.d, fileSize, &s.sb, s.idSum)
	if err != nil {
		return Summary{}, during("probe store", f.Name(), err)
	}
	if n := len(commits); n > 0 {
		sum.Size, sum.Generation = commits[n-1].size, commits[n-1].gen
	}
	return sum, nil
}

// ProbeLen is how much of a file ProbeBytes wants, in bytes.
const ProbeLen = dataStart

// ProbeBytes is Probe by what a file of size bytes begins with: ProbeLen bytes, or
// all that there are. It reports false where a log may follow, or a writer may be at a
// superblock or has changed the size meanwhile: then only Probe tells. Errors name no
// file.
func ProbeBytes(begin []byte, size int64) (Summary, bool, error) {
	c, err := chooseSuperblock(begin[:min(len(begin), dataStart)], size)
	if err != nil {
		return Summary{}, !errors.Is(err, ErrDamaged), err
	}
	return summarize(&c.sb), c.other == nil && c.sb.logOff+logBlockLen > size, nil
}

func summarize(sb *superblock) Summary { return Summary{sb.size, sb.frameSize(), sb.gen} }
