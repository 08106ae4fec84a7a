package store

import "fmt"

// checkpoint writes the index and a superblock that names it: the next
// generation, with an empty log. The caller holds gate alone.
func (s *Store) checkpoint(wait bool, size int64) error {
	sb, logReserved, err := s.writeIndex(size)
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	if s.unsynced {
		// A superblock may not become durable before what it names.
		if err := s.datasync(); err != nil {
			return err
		}
	}
	if err := s.writeSuperblock(sb, logReserved); err != nil {
		return err
	}
	if wait {
		return s.datasync()
	}
	return nil
}

// writeIndex writes the changed nodes of the index and returns the superblock
// that is to follow, and whether the place that it names for the log has blocks.
func (s *Store) writeIndex(size int64) (*superblock, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen == maxGeneration {
		return nil, false, errLastGeneration
	}
	if err := s.loadSpace(); err != nil {
		return nil, false, err
	}
	if err := s.idx.flush(s.writeNode, s.dropNode); err != nil {
		return nil, false, err
	}
	end := s.liveEnd()
	sb := s.sb
	sb.gen, sb.size, sb.copied = s.gen+1, size, false
	sb.codec, sb.level = s.newCodec().ID(), int8(s.level)
	sb.depth, sb.root = uint8(s.idx.depth()), s.idx.at
	sb.frames, sb.stored, sb.end = s.frames, s.stored, end
	sb.inline, sb.inlineKind, sb.inlinePlain = s.inline.data, s.inline.kind, s.inline.plain
	sb.logSeed = newSeed()
	if s.sb.inline != nil && sb.inline != nil && s.logReserved {
		return &sb, true, nil // No log was there, and none will be: its place stays.
	}
	// What is cut on a full disk can be committed: the log's next block is there.
	off, err := s.takeWritten(logBlockLen)
	sb.logOff = off
	return &sb, err == nil, nil
}

// writeNode writes one index node. The caller holds mu.
func (s *Store) writeNode(n *node, payload []byte) (entry, error) {
	b := make([]byte, roundUp(int64(frameHeadLen+len(payload)), unit))
	copy(b[frameHeadLen:], payload)
	k := kindNode + kind(n.level)
	sum := putFrameHead(b[:frameHeadLen+len(payload)], s.idSum, k, n.first, s.gen+1)
	off := s.take(int64(len(b)))
	s.unsynced = true
	if _, err := s.d.WriteAt(b, off); err != nil {
		if off, err = s.putAgain(b, off, err); err != nil {
			return entry{}, err
		}
	}
	return newEntry(off, len(payload), k, len(payload), sum), nil
}

// dropNode gives up the old form of an index node, which the superblock on disk
// goes on naming, unless the store is just being made.
func (s *Store) dropNode(old entry) {
	if s.changed == nil {
		s.freeNow(old.extent())
		return
	}
	s.nodeLimbo = append(s.nodeLimbo, old.extent())
}

// liveEnd is the first byte behind everything that the next superblock names. It
// leaves out what will be free then: the file may be cut there before the next
// one is written. Beside a reader that may be very much.
func (s *Store) liveEnd() int64 {
	live := max(dataStart, s.idx.at.extent().end())
	gone := s.doomed()
	for _, l := range s.limbo {
		if l.off >= live {
			gone = append(gone, l.extent)
		}
	}
	radixSort(gone, func(e extent) uint64 { return uint64(e.off) / unit })
	end := s.space.end()
	for {
		if off, ok := s.space.gaps.byEnd.Get(end); ok {
			end = off
		}
		last := len(gone) - 1
		if last < 0 || gone[last].end() != end {
			return end
		}
		end, gone = gone[last].off, gone[:last]
	}
}

// doomed lists what only the superblock on disk and its log name.
func (s *Store) doomed() []extent {
	gone := append([]extent(nil), s.nodeLimbo...)
	for _, off := range s.logBlocks {
		gone = append(gone, extent{off, logBlockLen})
	}
	gone = append(gone, extent{s.logNext, logBlockLen})
	if s.logRun.len > 0 {
		gone = append(gone, s.logRun)
	}
	return gone
}

// writeSuperblock makes sb the newest superblock. It overwrites the older of the
// two, but not while that is the only one known to be durable. logReserved says that
// the place of its log has blocks.
func (s *Store) writeSuperblock(sb *superblock, logReserved bool) error {
	s.mu.RLock()
	slot := s.slot
	if s.slotDurable {
		slot = 1 - slot
	}
	s.mu.RUnlock()
	if n, err := s.writeSlot(sb, slot); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if sb.logOff != s.logNext {
			s.freeNow(extent{sb.logOff, logBlockLen})
		}
		if !undone(n, err) {
			s.mayBe(sb.gen)
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.doomed() {
		if e.off != sb.logOff {
			s.leave(sb.gen, e)
		}
	}
	s.nodeLimbo, s.logBlocks, s.logRun = nil, nil, extent{}
	s.changing.clear()
	s.clearedLeaves, s.logReserved, s.short = 0, logReserved, !logReserved
	for n := range s.dirty { // Written meanwhile, for the next commit.
		s.changing.add(n, max(s.idx.depth(), depthFor(n)))
	}
	s.sb, s.slot, s.slotDurable, s.twins, s.torn = *sb, slot, false, false, false
	s.logNext, s.logSeed = sb.logOff, sb.logSeed
	s.committed()
	return nil
}

// writeSlot writes a superblock, and returns how many bytes of it where that fails.
func (s *Store) writeSlot(sb *superblock, slot int) (n int, err error) {
	var b [slotLen]byte
	sb.encode(b[:])
	if n, err = s.d.WriteAt(b[:], int64(slot)*slotLen); err != nil {
		return n, fmt.Errorf("write superblock: %w", err)
	}
	return n, nil
}

// finish commits, leaves the store without a log, gives free space back and makes
// both superblocks say the same, so that damage to one never shows an older state.
// Without room for the index all that is left to whoever writes next: the log has it.
func (s *Store) finish() error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if err := s.commit(true); err != nil {
		return err
	}
	if len(s.logBlocks) > 0 {
		err := s.checkpoint(true, s.Size())
		if isNoSpace(err) && s.failed == nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidy()
	return s.copySlot()
}

// tidy gives back what the closed store does not need, left behind by a writer that
// was killed, too. Where that can't be done it stays. The caller holds mu.
func (s *Store) tidy() {
	size, err := s.d.Size()
	if s.space == nil && err == nil && (s.surplus || size > s.closedEnd()) {
		err = s.loadSpace()
	}
	if s.space == nil || err != nil {
		return
	}
	if s.reclaim(); len(s.limbo) > 0 {
		return
	}
	if s.keptLog() == 0 {
		s.freeNow(extent{s.logNext, logBlockLen})
	}
	s.punchFree(true)
}

// copySlot makes the other superblock a copy of the newest one, which is durable.
// The caller holds mu.
func (s *Store) copySlot() error {
	if s.twins {
		return nil
	}
	sb := s.sb
	sb.copied = true
	if _, err := s.writeSlot(&sb, 1-s.slot); err != nil {
		return err
	}
	s.twins = true
	return nil
}
