package store

// set makes e the entry of frame and returns the one it replaces.
func (x *index) set(frame int64, e entry) (entry, error) {
	if x.root == nil {
		x.root = newNode(0, 0, fanout)
		x.root.dirty = true
	}
	for !x.covers(frame) {
		top := newNode(x.root.level+1, 0, fanout)
		top.kids[0].Store(x.root)
		top.entries[0], x.at = x.at, entry{}
		top.dirty = true
		x.root = top
	}
	n := x.root
	for n.level > 0 {
		i := n.roomFor(frame)
		kid, err := x.kid(n, i)
		if err != nil {
			return entry{}, err
		}
		if kid == nil {
			kid = newNode(n.level-1, n.first+int64(i)*n.span(), fanout)
			n.kids[i].Store(kid)
			x.keep(n, i)
		}
		// Dirty before anything else is kept, so that it can't be let go.
		kid.dirty = true
		n = kid
	}
	x.root.dirty = true
	i := n.roomFor(frame)
	old := n.entries[i]
	n.entries[i] = e
	return old, nil
}

// clear makes the frames of r holes. dropped is called for each entry that was none,
// in order, and gone for each node that lay in the file and is needed no more. At
// most a few nodes are kept in memory for that, however many the frames had. It
// returns the number of leaves that were looked at. Who wants damage to leave the
// index as it was reads all of r first, by occupied.
func (x *index) clear(r span, dropped func(frame int64, e entry), gone func(node entry)) (leaves int, err error) {
	if x.root == nil {
		return 0, nil
	}
	c := clearing{x: x, r: r, dropped: dropped, gone: gone}
	changed, err := c.node(x.root)
	x.root.dirty = x.root.dirty || changed
	return c.leaves, err
}

// A clearing is one call of clear.
type clearing struct {
	x       *index
	r       span
	dropped func(frame int64, e entry)
	gone    func(node entry)
	leaves  int
}

// node clears the frames of r that n covers, and reports whether n changed. It is
// marked as dirty meanwhile, so that it can't be let go.
func (c *clearing) node(n *node) (changed bool, err error) {
	from, to := n.slots(c.r)
	if n.level == 0 {
		c.leaves++
		for i := from; i < to; i++ {
			if old := n.entries[i]; old != (entry{}) {
				n.entries[i], changed = entry{}, true
				c.dropped(n.first+int64(i), old)
			}
		}
		return changed, nil
	}
	for i := from; i < to && err == nil; i++ {
		var news bool
		news, err = c.kid(n, i)
		changed = changed || news
	}
	return changed, err
}

// kid is node for the i-th child of n, which loses it when nothing can be left.
func (c *clearing) kid(n *node, i int) (changed bool, err error) {
	kid, err := c.x.kid(n, i)
	if kid == nil {
		return false, err
	}
	was := kid.dirty
	kid.dirty = true
	changed, err = c.node(kid)
	if err != nil || kid.first < c.r.from || kid.first+n.span() > c.r.to {
		kid.dirty = was || changed
		return changed, err
	}
	old := n.entries[i]
	n.entries[i] = entry{}
	n.kids[i].Store(nil)
	if old.onDisk() {
		c.gone(old)
	}
	return true, nil
}

// flush hands every dirty node to write, children first, and makes the parent
// name what write returns. dropped is called for the entries they had before.
// After an error the index is whole and flush may be called again.
func (x *index) flush(write func(n *node, payload []byte) (entry, error), dropped func(entry)) error {
	if x.root == nil || !x.root.dirty {
		return nil
	}
	e, err := x.flushNode(x.root, x.at, write, dropped)
	if err != nil {
		return err
	}
	if x.at = e; e == (entry{}) {
		x.root = nil
	}
	return nil
}

// flushNode is flush for n and what lies below it. It returns what names n from now on
// in the place of old: nothing where all its frames are holes.
func (x *index) flushNode(n *node, old entry, write func(*node, []byte) (entry, error), dropped func(entry)) (entry, error) {
	for i := range n.kids {
		kid := n.kids[i].Load()
		if kid == nil || !kid.dirty {
			continue
		}
		e, err := x.flushNode(kid, n.entries[i], write, dropped)
		if err != nil {
			return entry{}, err
		}
		n.entries[i] = e
		if e == (entry{}) {
			n.kids[i].Store(nil)
		} else {
			x.keep(n, i) // While it was dirty it may have lost its place there.
		}
	}
	used := len(n.entries)
	for used > 0 && n.entries[used-1] == (entry{}) {
		used--
	}
	var e entry
	if used > 0 {
		var err error
		if e, err = write(n, encodeNode(n.entries[:used])); err != nil {
			return entry{}, err
		}
	}
	n.dirty = false
	if old.onDisk() {
		dropped(old)
	}
	return e, nil
}

func encodeNode(entries []entry) []byte {
	b := make([]byte, len(entries)*entryLen)
	for i, e := range entries {
		putEntry(b[i*entryLen:], e)
	}
	return b
}
