package store

// scan calls yield for every entry that is not a hole from frame number from on
// and below to, in order, until it returns false.
func (x *index) scan(from, to int64, yield func(frame int64, e entry) bool) error {
	if x.root == nil {
		return nil
	}
	_, err := x.scanNode(x.root, span{from, to}, yield)
	return err
}

// occupied returns the frames of r from the first to the last that is not a hole,
// an empty span when all are. It reads every node of r.
func (x *index) occupied(r span) (found span, err error) {
	found.from = r.to
	err = x.scan(r.from, r.to, func(n int64, _ entry) bool {
		found = span{min(found.from, n), n + 1}
		return true
	})
	return found, err
}

func (x *index) scanNode(n *node, r span, yield func(int64, entry) bool) (bool, error) {
	from, to := n.slots(r)
	for i := from; i < to; i++ {
		if n.level == 0 {
			if e := n.entries[i]; e != (entry{}) && !yield(n.first+int64(i), e) {
				return false, nil
			}
			continue
		}
		kid, err := x.kid(n, i)
		if err != nil {
			return false, err
		}
		if kid == nil {
			continue
		}
		if more, err := x.scanNode(kid, r, yield); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// nodes calls yield for the entry of every node as it is on disk, parents after
// their children.
func (x *index) nodes(yield func(first int64, e entry) error) error {
	if x.root == nil {
		return nil
	}
	return x.walkNodes(x.root, x.at, yield)
}

func (x *index) walkNodes(n *node, e entry, yield func(int64, entry) error) error {
	for i := range n.kids {
		if err := x.walkKid(n, i, yield); err != nil {
			return err
		}
	}
	if !e.onDisk() {
		return nil // Never written; nodes below it may be.
	}
	return yield(n.first, e)
}

func (x *index) walkKid(n *node, i int, yield func(int64, entry) error) error {
	e := n.entries[i]
	if n.level == 1 { // Leaves are named by their parent; no need to read them.
		if !e.onDisk() {
			return nil
		}
		return yield(n.first+int64(i)*n.span(), e)
	}
	kid, err := x.kid(n, i)
	if kid == nil {
		return err
	}
	return x.walkNodes(kid, e, yield)
}
