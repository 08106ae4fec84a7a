package store

// maxNodeMoves bounds the index nodes that one checkpoint moves, 16 MiB.
const maxNodeMoves = 1024

// moveNodes moves index nodes that lie behind goal into the lowest gaps, some at a
// time, as long as that makes them fewer.
func (c *compactor) moveNodes(goal int64) error {
	left, err := c.checkpoint(goal)
	for left > 0 && err == nil {
		if err := c.alive(); err != nil {
			return err
		}
		before := left
		if left, err = c.checkpoint(goal); left >= before {
			break
		}
	}
	return err
}

// checkpoint commits by a checkpoint. It moves index nodes that lie behind goal,
// or in the window to be emptied, into the lowest gaps, and returns how many such
// were too many for once. On a full disk, or when goal is 0, nodes go behind the
// end, where room is reserved.
func (c *compactor) checkpoint(goal int64) (left int, err error) {
	s := c.s
	s.gate.Lock()
	defer s.gate.Unlock()
	state, err := s.freeze()
	if err != nil {
		return 0, err
	}
	if err = s.flushFrozen(state); err == nil {
		if left, err = c.writeNodes(goal); isNoSpace(err) {
			left, err = c.writeNodes(0)
		}
	}
	if err == nil {
		err = s.checkpoint(true, state.size)
	}
	if err != nil && state.changes {
		s.markChanged()
	}
	return left, err
}

// writeNodes writes the changed nodes and those to be moved into gaps, and sees
// to it that the first log block after them will find one.
func (c *compactor) writeNodes(goal int64) (left int, err error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if goal > 0 {
		if left, err = c.touchNodes(goal); err != nil {
			return 0, err
		}
	}
	c.aimed = 0
	err = s.idx.flush(func(n *node, payload []byte) (entry, error) {
		c.aim(frameHeadLen+int64(len(payload)), goal > 0)
		return s.writeNode(n, payload)
	}, s.dropNode)
	c.aimed = 0
	c.aim(logBlockLen, goal > 0)
	s.logReserved = s.logReserved && s.inline.data == nil // Else the place of the log would stay.
	c.window = extent{}
	return left, err
}

// touchNodes marks nodes that are to be moved as changed, and returns how many
// were too many.
func (c *compactor) touchNodes(goal int64) (left int, err error) {
	s := c.s
	type place struct {
		first int64
		level int
	}
	var places []place
	room, full := s.space.freeBytes(), false
	err = s.idx.nodes(func(first int64, e entry) error {
		x := e.extent()
		switch {
		case x.end() <= goal && !x.overlaps(c.window):
		case len(places) == maxNodeMoves || full:
			left++
		case x.len <= room:
			err := c.mayMove(first)
			if full = isNoSpace(err); full {
				left++
				return nil
			}
			places = append(places, place{first, int(e.kind() - kindNode)})
			room -= x.len
			return err
		}
		return nil
	})
	for i := 0; i < len(places) && err == nil; i++ {
		err = s.idx.touch(places[i].first, places[i].level)
	}
	return left, s.blame(err, 0)
}

// mayMove notes that the nodes above frame first are to be written. Where a gap turns
// out to have no blocks that takes room which is reserved: it may not be that of what
// was accepted. The caller holds mu.
func (c *compactor) mayMove(first int64) error {
	if c.s.owes() {
		return c.s.reserve(first)
	}
	c.s.changing.add(first, c.s.idx.depth())
	return nil
}

// touch marks the node of that level which covers frame as changed, and with it
// those above it.
func (x *index) touch(frame int64, level int) error {
	n := x.root
	n.dirty = true
	for n.level > level {
		kid, err := x.kid(n, n.slot(frame))
		if err != nil || kid == nil {
			return err
		}
		// Dirty before anything else is kept, so that it can't be let go.
		kid.dirty = true
		n = kid
	}
	return nil
}

// aim makes the next allocation, of n bytes, take the lowest gap that holds it, outside
// the window and behind those that it passed over before: also above the goal, since
// what lies at the end keeps the file long. Without inGaps it takes the end of the file.
func (c *compactor) aim(n int64, inGaps bool) {
	space := c.s.space
	if !inGaps {
		space.next, space.grown = space.top, space.top
		return
	}
	space.gaps.byEnd.Ascend(c.aimed+1, func(end, off int64) bool {
		if end-off >= n && !c.window.overlaps(extent{off, end - off}) {
			space.next = off
			return false
		}
		c.aimed = end
		return true
	})
}
