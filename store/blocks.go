package store

// An fdatasync of blocks that have been written before waits for the disk alone;
// where blocks are new, or reserved and never written, the file system writes a
// journal of its own and waits twice. So commits are given written blocks: free
// ones are kept, and some are made in advance by filling them with zeros.

const (
	// aheadBytes bounds the zeros that are written between two commits beyond what is
	// needed, so that one of a page, in frames of up to DefaultFrameSize, writes less
	// than 64 KiB.
	aheadBytes = 36 << 10
	// blockLen is a multiple of the length of a file system's blocks, most often.
	blockLen = 4096
)

// A blockMap says for which bytes of the file there are written blocks.
type blockMap struct {
	end     int64   // nothing is known of what lies from here on
	punched spanSet // of whole blocks below end; a few of them may be there after all
}

// lacking returns the first byte of e without a written block.
func (m *blockMap) lacking(e extent) (off int64, found bool) {
	if part, found := m.punched.first(span{e.off, min(e.end(), m.end)}); found {
		return part.from, true
	}
	return max(e.off, m.end), e.end() > m.end
}

// wrote notes that the bytes of e are written. Those between end and e are in use
// and being written, too.
func (m *blockMap) wrote(e extent) {
	m.end = max(m.end, e.end())
	m.punched.remove(e.touched())
}

// lost notes that the bytes of e could not be written.
func (m *blockMap) lost(e extent) {
	m.punched.add(e.touched())
}

// punch notes that the whole blocks of e are given back. It returns them and for
// how many bytes that is new.
func (m *blockMap) punch(e extent) (whole extent, news int64) {
	whole = e.blocks()
	news = whole.len - m.punched.count(whole.span())
	m.punched.add(whole.span())
	return whole, news
}

// cut notes that nothing is known any more of what lies from off on.
func (m *blockMap) cut(off int64) {
	m.punched.remove(span{off, m.end})
	m.end = min(m.end, off)
}

// take takes n bytes of free space for what is written there at once, and fills what
// follows with zeros as far as ahead goes. Where the disk turns out to have no blocks
// for a gap, putAgain has others. The caller holds mu.
func (s *Store) take(n int64) int64 {
	e := s.takeFree(n)
	if off, found := s.blocks.lacking(e); found {
		to := s.aheadOf(off, e)
		_ = s.fill(e.end(), to) // For later commits, which may do without.
		s.ahead = max(0, s.ahead-(max(to, e.end())-off))
	}
	s.blocks.wrote(e)
	return e.off
}

// takeFree takes n bytes of free space, where room is short those that have blocks.
func (s *Store) takeFree(n int64) extent {
	if s.tight {
		if e, found := s.takeRun(n); found {
			return e
		}
	}
	return extent{s.space.alloc(n), n}
}

// takeReserved takes n bytes that have blocks, or lie at the end of the file, where room
// is reserved. The caller holds mu.
func (s *Store) takeReserved(n int64) extent {
	e, found := s.takeRun(n)
	if !found {
		e = extent{s.space.grow(n), n}
	}
	return e
}

// takeWritten takes n bytes of free space and fills them with zeros where they
// lack written blocks, and more behind them as far as ahead goes. An error says that
// n bytes were taken, but may lack blocks. The caller holds mu.
func (s *Store) takeWritten(n int64) (off int64, err error) {
	e := s.takeFree(n)
	err = s.fillAll(e)
	if isNoSpace(err) { // A punched gap, or new blocks at the end.
		s.space.free(e)
		e = s.takeReserved(n)
		err = s.fillAll(e)
	}
	s.blocks.wrote(e)
	if isNoSpace(err) {
		s.blocks.lost(e)
	}
	return e.off, err
}

// fillAll is takeWritten for the space e, which is taken.
func (s *Store) fillAll(e extent) error {
	off, found := s.blocks.lacking(e)
	if !found {
		return nil
	}
	to := max(s.aheadOf(off, e), e.end())
	err := s.fill(off, to)
	if err == nil {
		s.ahead = max(0, s.ahead-(to-off))
	}
	return err
}

// aheadOf is how far zeros may go when e, which is taken, lacks blocks from off on.
func (s *Store) aheadOf(off int64, e extent) int64 {
	return min(off+s.ahead, e.end()+s.space.room(e.end()))
}

// fill writes zeros from from on and below to.
func (s *Store) fill(from, to int64) error {
	for off := from; off < to; {
		n := min(to-off, int64(len(blank)))
		if _, err := s.d.WriteAt(blank[:n], off); err != nil {
			return err
		}
		off += n
	}
	if from < to {
		s.blocks.wrote(extent{from, to - from})
	}
	return nil
}

// blank is what is written in advance.
var blank [64 << 10]byte
