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
	m.punched.remove(span{e.off &^ (blockLen - 1), roundUp(e.end(), blockLen)})
}

// lost notes that the bytes of e could not be written.
func (m *blockMap) lost(e extent) {
	m.punched.add(span{e.off &^ (blockLen - 1), roundUp(e.end(), blockLen)})
}

// punch notes that the whole blocks of e are given back. It returns them and for
// how many bytes that is new.
func (m *blockMap) punch(e extent) (whole extent, news int64) {
	whole = e.blocks()
	all := span{whole.off, whole.end()}
	news = whole.len - m.punched.count(all)
	m.punched.add(all)
	return whole, news
}

// cut notes that nothing is known any more of what lies from off on.
func (m *blockMap) cut(off int64) {
	m.punched.remove(span{off, m.end})
	m.end = min(m.end, off)
}

// takeWritten takes n bytes of free space and fills them with zeros where they
// lack written blocks, and more behind them as far as ahead goes. zeroed says that
// all n must be filled; otherwise those at the end of the file need not be, since
// they are to be written at once, into room that is reserved. An error says that
// n bytes were taken, but may lack blocks. The caller holds mu.
func (s *Store) takeWritten(n int64, zeroed bool) (off int64, err error) {
	end := s.space.end()
	e, found := extent{}, false
	if s.tight {
		e, found = s.takeRun(n)
	}
	if !found {
		e = extent{s.space.alloc(n), n}
	}
	err = s.fill(e, zeroed || e.off < end)
	if isNoSpace(err) { // A punched gap, or new blocks at the end.
		s.space.free(e)
		if e, found = s.takeRun(n); !found {
			e = extent{s.space.grow(n), n}
		}
		err = s.fill(e, zeroed)
	}
	s.blocks.wrote(e)
	if isNoSpace(err) {
		s.blocks.lost(e)
	}
	return e.off, err
}

// fill is takeWritten for the space e, which is taken.
func (s *Store) fill(e extent, all bool) error {
	from, found := s.blocks.lacking(e)
	if !found {
		return nil
	}
	to := min(from+s.ahead, e.end()+s.space.room(e.end()))
	if all {
		to = max(to, e.end())
	}
	for off := from; off < to; {
		n := min(to-off, int64(len(blank)))
		if _, err := s.d.WriteAt(blank[:n], off); err != nil {
			return err
		}
		off += n
	}
	if from < to {
		s.ahead = max(0, s.ahead-(to-from))
		s.blocks.wrote(extent{from, to - from})
	}
	return nil
}

// blank is what is written in advance.
var blank [64 << 10]byte
