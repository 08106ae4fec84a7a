package store

// Bounds of what freed space is kept for reuse instead of being given back to
// the file system: overwriting written blocks is faster than filling new ones.
const (
	keptFree  = 4 << 20 // bytes
	keptShare = 8       // and this part of the live bytes
)

// A limboExtent is space that no generation from gen on names. It is free once
// gen is durable and no reader is left that sees an older one.
type limboExtent struct {
	gen uint64
	extent
}

// loadSpace finds the free space by a walk over the index, which must be as it
// is on disk. The caller holds mu.
func (s *Store) loadSpace() error {
	if s.space != nil {
		return nil
	}
	used, frames, stored, err := s.usedSpace()
	if err != nil {
		return withPath(err, s.Path())
	}
	space, err := newAllocator(dataStart, used)
	if err != nil {
		return withPath(err, s.Path())
	}
	s.space, s.frames, s.stored = space, frames, stored
	s.blocks = blockMap{end: space.end()}
	space.holes(blockLen, func(e extent) bool {
		s.blocks.punch(e) // An earlier writer may have done so.
		return true
	})
	if !s.logReserved {
		s.blocks.lost(extent{s.logNext, logBlockLen}) // It was free when that writer closed.
	}
	if err := s.sparePinned(); err != nil {
		s.space = nil // Readers are not safe from it.
		return err
	}
	return nil
}

// usedSpace lists what is in use, and counts the frames on disk and the bytes of their
// extents. The caller holds mu.
func (s *Store) usedSpace() (used []extent, frames, stored int64, err error) {
	// Nodes and the rest are much fewer than frames. A damaged superblock may count
	// any number of these, and less than a log clears.
	expected := max(0, min(s.frames, s.sb.end/(frameHeadLen+unit), 1<<20))
	used = make([]extent, 0, 64+expected+expected/64)
	used = append(used, extent{s.logNext, logBlockLen})
	used = append(used, s.nodeLimbo...)
	for _, off := range s.logBlocks {
		used = append(used, extent{off, logBlockLen})
	}
	err = s.idx.scan(0, maxFrameNumber+1, func(_ int64, e entry) bool {
		if e.onDisk() {
			used = append(used, e.extent())
			frames++
			stored += e.extent().len
		}
		return true
	})
	if err != nil {
		return nil, 0, 0, err
	}
	err = s.idx.nodes(func(_ int64, e entry) error {
		used = append(used, e.extent())
		return nil
	})
	return used, frames, stored, err
}

// sparePinned keeps the free space out of use as long as a reader may see an
// older generation in it.
func (s *Store) sparePinned() error {
	if s.f == nil {
		return nil
	}
	if _, ok, err := oldestPin(s.f, s.gen); err == nil && !ok {
		return nil
	}
	size, err := s.d.Size()
	if err != nil {
		return err
	}
	var held []extent
	s.space.holes(unit, func(e extent) bool {
		held = append(held, e)
		return true
	})
	// No generation has anything behind the longest file.
	if end, size := s.space.end(), min(size, maxFileSize); size > end {
		tail := extent{end, roundUp(size-end, unit)}
		held = append(held, tail)
		s.blocks.end = tail.end()
		s.blocks.lost(tail) // An earlier writer may have punched it, too.
	}
	for _, e := range held {
		if err := s.space.claim(e); err != nil {
			return err
		}
		s.limbo = append(s.limbo, limboExtent{s.gen, e})
	}
	return nil
}

// setEntry makes e the entry of frame. The caller holds gate and mu.
func (s *Store) setEntry(frame int64, e entry) error {
	if err := s.loadSpace(); err != nil {
		return err
	}
	old, err := s.idx.set(frame, e)
	if err != nil {
		return err
	}
	s.count(old, -1)
	s.count(e, +1)
	s.release(frame, old)
	if s.changed != nil {
		s.changed[frame] = struct{}{}
		s.changing.add(frame, s.idx.depth())
	}
	return nil
}

// clearFrames makes frames holes. The caller holds gate alone, and mu.
func (s *Store) clearFrames(from, to int64) error {
	if from >= to {
		return nil
	}
	first, last := to, from
	leaves, err := s.idx.clear(span{from, to}, func(frame int64, old entry) {
		first, last = min(first, frame), frame
		s.count(old, -1)
		s.release(frame, old)
		delete(s.changed, frame)
	}, s.dropNode)
	if first <= last {
		s.cleared = append(s.cleared, span{first, last + 1})
		s.clearedLeaves += leaves
	}
	return err
}

// release gives up the extent of old: at once when no commit names it.
func (s *Store) release(frame int64, old entry) {
	if !old.onDisk() {
		return
	}
	if _, uncommitted := s.changed[frame]; uncommitted {
		s.freeNow(old.extent())
		return
	}
	s.leave(s.gen+1, old.extent())
}

// leave puts e into limbo, where what lies side by side is one.
func (s *Store) leave(gen uint64, e extent) {
	if n := len(s.limbo); n > 0 && s.limbo[n-1].gen == gen && s.limbo[n-1].end() == e.off {
		s.limbo[n-1].len += e.len
		return
	}
	s.limbo = append(s.limbo, limboExtent{gen, e})
}

func (s *Store) freeNow(e extent) {
	s.space.free(e)
	// Of the gap that the new end adds to what lies behind it a part may be
	// punched: what waits may find no room in it.
	if s.waits() && !s.tight {
		_, s.tight = s.blocks.punched.first(span{s.space.end(), s.reserved})
	}
}

// count keeps the superblock's numbers.
func (s *Store) count(e entry, by int64) {
	if e.onDisk() {
		s.frames += by
		s.stored += by * e.extent().len
	}
}

// reclaim frees what has left limbo: its generation is durable and no reader
// sees an older one. The caller holds mu.
func (s *Store) reclaim() {
	if len(s.limbo) == 0 || s.limbo[0].gen > s.durable {
		return
	}
	oldest := s.gen
	if s.f != nil {
		gen, ok, err := oldestPin(s.f, s.gen)
		if err != nil {
			return // Without locks readers can't be seen: the space stays unused.
		}
		if ok {
			oldest = gen
		}
	}
	n := 0
	for n < len(s.limbo) && s.limbo[n].gen <= s.durable && s.limbo[n].gen <= oldest {
		s.freeNow(s.limbo[n].extent)
		n++
	}
	s.limbo = s.limbo[n:]
}

// punchFree gives free space back to the file system when there is more than
// is worth keeping, until half of that is left, or all when so asked. What the
// file system refuses stays free for reuse. The caller holds mu.
func (s *Store) punchFree(all bool) {
	kept := keptFree + s.stored/keptShare
	if s.space == nil || !all && s.unpunched() <= kept {
		return
	}
	if s.owes() && !s.covered(s.need(0)) {
		return // It needs what is in the gaps.
	}
	s.punchGaps(all, kept/2)
	s.cutFile()
}

// cutFile cuts off what lies behind the end, but not the room for what is to be committed.
func (s *Store) cutFile() {
	size, err := s.d.Size()
	if err != nil || !s.slotDurable {
		return
	}
	// The superblock on disk, whose log may have freed the end, names the bytes
	// before its own end.
	end := max(s.space.end(), s.sb.end)
	switch {
	case s.owes():
		// A file that is cut keeps its blocks before the cut: those reserved there, too.
		end = roundUp(max(end, s.space.end()+s.need(0)), blockLen)
		if size <= end {
			return
		}
	case size < end || size == end && !s.surplus:
		return
	}
	s.d.Truncate(end) // Gives up what is reserved behind it, too, also when the size stays.
	s.reserved = min(s.reserved, end)
	s.blocks.cut(end)
	s.surplus = false
}

// unpunched is how many bytes of the free space have whole blocks, as far as is
// known. The caller holds mu.
func (s *Store) unpunched() int64 {
	punched := &s.blocks.punched
	return s.space.freeBlocks() - punched.len + punched.count(span{s.space.end(), s.blocks.end})
}

// punchGaps gives the longest gaps back until least bytes are left that have
// blocks, as far as is known; or all of them, those that earlier writers left
// included.
func (s *Store) punchGaps(all bool, least int64) {
	left := s.unpunched()
	s.space.longest(blockLen, func(e extent) bool {
		if all {
			s.blocks.punched.remove(e.blocks().span())
		} else if left <= least {
			return false
		}
		whole, news := s.blocks.punch(e)
		left -= news
		return news == 0 || s.d.Punch(whole.off, whole.len) == nil
	})
}
