package store

import (
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// A move is a frame that is to lie elsewhere.
type move struct {
	frame frameEntry
	to    int64 // offset, or one of the following
}

const (
	toEnd      = -1 // behind everything
	toAnywhere = -2 // where new frames go, compressed again
)

func (m move) len() int64 { return m.frame.entry.extent().len }

// moveAll carries moves out, some at a time, with a commit behind each. Frames
// that change meanwhile stay where they are. left is how many stored bytes are to
// be dealt with behind these.
func (c *compactor) moveAll(moves []move, left int64) error {
	for _, m := range moves {
		left += m.len()
	}
	if err := c.reserve(len(moves)); err != nil {
		return err
	}
	again := false // One move alone is tried again, once.
	for len(moves) > 0 {
		n, bytes := c.nextMoves(moves)
		err := c.moveSome(moves[:n])
		if err == nil {
			err = c.s.Sync() // Which frees their old places.
		}
		switch {
		case isNoSpace(err) && (n > 1 || !again):
			again = n == 1
			c.step, c.poor = bytes/4, true
			if err := c.giveBack(); err != nil {
				return err
			}
			continue // Those that moved already are passed over.
		case err != nil:
			return err
		case c.poor:
			if err := c.trim(); err != nil {
				return err
			}
		}
		left -= bytes
		c.progress(bytes, left)
		moves, again = moves[n:], false
	}
	return nil
}

// nextMoves is how many of moves go into one commit, and their stored bytes: no more than
// step, but one move at least.
func (c *compactor) nextMoves(moves []move) (n int, bytes int64) {
	for n < len(moves) && (n == 0 || bytes+moves[n].len() <= c.step) {
		bytes += moves[n].len()
		n++
	}
	return n, bytes
}

// reserve makes sure that a commit of moves can begin.
func (c *compactor) reserve(moves int) error {
	if moves == 0 {
		return nil
	}
	c.s.gate.RLock() // No commit is writing to the log.
	defer c.s.gate.RUnlock()
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if err := c.s.usable(); err != nil {
		return err
	}
	return c.s.reserveRecord(c.s.size)
}

// giveBack makes room on a full disk: it commits into the room that is reserved
// for that, and gives back what the moves until now have freed.
func (c *compactor) giveBack() error {
	if _, err := c.checkpoint(0); err != nil {
		return err
	}
	return c.trim()
}

// moveSome carries moves out on all cores.
func (c *compactor) moveSome(moves []move) error {
	c.s.gate.RLock()
	defer c.s.gate.RUnlock()
	if err := c.alive(); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for some := range slices.Chunk(moves, 16) {
		g.Go(func() error {
			stored := getBuffer(c.s.encodeRoom())
			defer putBuffer(stored)
			for _, m := range some {
				if err := c.moveFrame(m, stored.b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// moveFrame moves one frame by way of b. The caller holds gate.
func (c *compactor) moveFrame(m move, b []byte) error {
	if same, err := c.readFrame(m.frame, b); !same || err != nil {
		return err
	}
	if m.to == toAnywhere {
		return c.recodeFrame(m.frame, b)
	}
	old := m.frame.entry
	off, gen, err := c.claim(m)
	if off < 0 || err != nil {
		return err
	}
	padded := b[:old.extent().len]
	clear(padded[old.stored():])
	sum := putFrameHead(b[:old.stored()], c.s.idSum, old.kind(), m.frame.number, gen)
	e := newEntry(off, old.payload(), old.kind(), old.plain(), sum)
	if _, err := c.s.d.WriteAt(padded, off); err != nil {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.s.lost(e.extent(), err)
		return err
	}
	return c.replace(m.frame, e)
}

// readFrame reads the frame as it is stored and verifies it. It reports whether
// it is still the one that f says.
func (c *compactor) readFrame(f frameEntry, b []byte) (bool, error) {
	s := c.s
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, err := s.idx.lookup(f.number)
	if err != nil || e != f.entry {
		return false, s.blame(err, f.number)
	}
	if err := s.readStored(b[:e.extent().len], f.number, e); err != nil {
		return false, err
	}
	return true, s.blame(verifyFrame(b[:e.stored()], e, f.number, s.idSum), f.number)
}

// claim takes the place that the frame is to move to, and returns the generation
// that will name it; -1 when another was faster.
func (c *compactor) claim(m move) (off int64, gen uint64, err error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.to == toEnd {
		m.to = s.space.end()
	}
	e := extent{m.to, m.len()}
	if s.space.claim(e) != nil {
		return -1, 0, nil
	}
	if err := s.reserve(m.frame.number); err != nil { // For what waits, without this place.
		s.space.free(e)
		return 0, 0, err
	}
	s.blocks.wrote(e)
	s.unsynced = true
	return m.to, s.gen + 1, nil
}

// replace makes e the entry of a frame, unless another was written meanwhile.
func (c *compactor) replace(f frameEntry, e entry) error {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.idx.lookup(f.number)
	if err == nil && now == f.entry {
		s.changes = true
		return s.setEntry(f.number, e)
	}
	s.abandon(e)
	return s.blame(err, f.number)
}

// recompress compresses all frames again.
func (c *compactor) recompress() error {
	c.s.mu.RLock()
	left := c.s.stored
	c.s.mu.RUnlock()
	var moves []move
	for next := int64(0); ; {
		var bytes int64
		err := c.frames(next, func(n int64, e entry) bool {
			moves = append(moves, move{frameEntry{n, e}, toAnywhere})
			bytes += e.extent().len
			next = n + 1
			return bytes < c.step
		})
		if err != nil {
			return err
		}
		if len(moves) == 0 {
			return c.s.Sync() // Of what lies in the superblock.
		}
		left = max(0, left-bytes)
		if err := c.moveAll(moves, left); err != nil {
			return err
		}
		moves = moves[:0]
	}
}

// recodeFrame compresses the frame stored in b again and writes that, unless it
// is no better than what is there.
func (c *compactor) recodeFrame(f frameEntry, b []byte) error {
	s := c.s
	plain := getBuffer(s.frameSize)
	defer putBuffer(plain)
	old := f.entry
	s.mu.RLock()
	err := s.decodePayload(plain.b[:s.frameSize], b[frameHeadLen:old.stored()], f.number, old, s.frameSize)
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	stored, k, err := s.compress(b, plain.b[:old.plain()])
	if err != nil || k == old.kind() && len(stored) >= old.stored() {
		return err
	}
	s.mu.Lock()
	err = s.book(f.number)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	defer s.unbook(1)
	e, err := s.place(f.number, stored, k, old.plain())
	if err != nil {
		return err
	}
	return c.replace(f, e)
}
