package store

// A part of the room is held back for what is no write, so that a store on a full disk
// can be cut, punched and closed: frames of which a part is blanked, the nodes of the
// index above what is cut, and log blocks. Where it is used up, the log takes changes as
// long as it lasts, and the next commit is a checkpoint, if there is room for that: it
// gives back what the log and the old nodes take.
const (
	spareFrames = 4
	spareBlocks = 4
)

// keptShareLog is the part of the bytes of the frames, one in so many, which a closed store
// may keep for a log block, and by which that may make the file longer.
const keptShareLog = 64

// keptLog is the end of the log block that stays with a closed store, and 0 where it
// does not: whoever opens the store when the disk has become full can cut and punch
// whole frames with it.
func (s *Store) keptLog() int64 {
	end := s.logNext + logBlockLen
	if room := s.stored / keptShareLog; room < logBlockLen || end-s.sb.end > room {
		return 0
	}
	return end
}

// closedEnd is where the file of a closed store ends at the latest.
func (s *Store) closedEnd() int64 { return max(s.sb.end, s.keptLog()) }

// spare reserves room for frame n, which is to be blanked in part, or takes of
// what is held back, as far as that is there: the disk may have been full before.
func (s *Store) spare(n int64) error {
	err := s.reserve(n)
	if err == nil || !isNoSpace(err) || s.spared == spareFrames {
		return err
	}
	s.spared++
	if err := s.ensureFrame(n, s.spareRoom()); err != nil {
		s.spared--
		return err
	}
	return nil
}

// spareEdges is spareNodes for those that lose a part of their frames when those of r
// become holes, of which only found are none. Nodes that lose all take no room.
func (s *Store) spareEdges(r, found span) error {
	edges := s.changing.freshEdges(r, found, s.idx.depth())
	if err := s.spareNodes(int64(len(edges))); err != nil {
		return err
	}
	for _, p := range edges {
		s.changing.put(p)
	}
	return nil
}

// spareNodes makes sure that there is room for a change that is no write, and for n
// nodes which it adds to those that a checkpoint has to write: it takes of what is held
// back, or leaves it to the log, which takes less.
func (s *Store) spareNodes(n int64) error {
	need := s.need(0) + n*nodeRoom
	err := s.ensure(need)
	if isNoSpace(err) {
		err = s.ensure(need - s.spareRoom() - int64(spareFrames-s.spared)*s.frameRoom())
	}
	if isNoSpace(err) && s.logLasts() {
		return nil
	}
	return err
}

// spareRoom is what is held back beside frames: for the nodes at both ends of what
// is cut out, up to the root, and a few log blocks.
func (s *Store) spareRoom() int64 {
	return int64(2*max(s.idx.depth(), 1)-1)*nodeRoom + spareBlocks*logBlockLen
}

// logLasts reports whether one more change, and all that was accepted, can surely be
// committed by the log block whose place is reserved. The caller holds mu.
func (s *Store) logLasts() bool {
	ops := len(s.dirty) + len(s.frozen) + s.booked + len(s.changed) + len(s.cleared) + 1
	return s.logReserved && !s.torn && ops <= opsPerBlock && len(s.logBlocks)+2 <= maxLogBlocks &&
		len(s.changing.leaves)+2 <= maxLogLeaves && s.inline.data == nil && s.sb.inline == nil
}

// checkpointHelps reports whether a checkpoint is better than the log, and surely finds
// room: so much became holes that a log which says so takes long to replay, or a full
// disk is short of what the log and the old nodes of the index take.
func (s *Store) checkpointHelps() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (s.clearedLeaves > maxLogLeaves || s.short) && s.roomForIndex()
}

// logTakesRoom reports whether a full disk is short of what the log takes, or has no
// room where its next block is to be but elsewhere in the file, and a checkpoint surely
// finds room.
func (s *Store) logTakesRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.short || s.space == nil {
		return false
	}
	_, elsewhere := s.firstRun(logBlockLen)
	return (len(s.logBlocks) > 0 || !s.logReserved && elsewhere) && s.roomForIndex()
}

// roomForIndex reports whether there surely is room for the nodes of a checkpoint, if
// nothing else is written before them.
func (s *Store) roomForIndex() bool {
	nodes := s.changing.len()
	if s.space == nil || s.ensure(nodes*nodeRoom) == nil {
		return true
	}
	s.runs(nodeRoom, func(e extent) bool {
		nodes -= e.len / nodeRoom
		return nodes > 0
	})
	s.tight = s.tight || nodes <= 0
	return nodes <= 0
}
