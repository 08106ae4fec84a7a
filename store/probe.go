package store

import (
	"errors"
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
	sum, err := newStore(fileDisk{f}, f).probe()
	if err != nil {
		return Summary{}, during("probe store", f.Name(), err)
	}
	return sum, nil
}

// probe is Probe. It pins nothing: a writer may give the place of the log, or of a frame
// that a commit names which is not durable, to something else before it is read, and
// what is read is then older than what there was. Newer commits tell.
func (s *Store) probe() (Summary, error) {
	for {
		seen, err := s.readWith(scanLog)
		if err != nil {
			return Summary{}, err
		}
		sb := s.sb
		t := logTrimmer{d: s.d, frameSize: sb.frameSize(), idSum: s.idSum}
		whole, err := t.trim(seen)
		if err != nil {
			return Summary{}, err
		}
		again, err := s.readWith(scanLog)
		if err != nil {
			return Summary{}, err
		}
		if s.sb.gen == sb.gen && len(whole) == len(seen) || summarize(&s.sb, again) == summarize(&sb, seen) {
			return summarize(&sb, whole), nil
		}
	}
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
	return summarize(&c.sb, nil), c.other == nil && !c.sb.mayHaveLog(size), nil
}

// summarize sums up what the last of the commits behind sb made.
func summarize(sb *superblock, commits []commit) Summary {
	sum := Summary{sb.size, sb.frameSize(), sb.gen}
	if n := len(commits); n > 0 {
		sum.Size, sum.Generation = commits[n-1].size, commits[n-1].gen
	}
	return sum
}
