package fs

import "errors"

// syncNames makes the names of n durable that are newer than the last call.
func (m *mount) syncNames(n *node) error {
	n.syncing.Lock()
	defer n.syncing.Unlock()
	n.mu.Lock()
	fresh := n.fresh
	n.fresh = false
	n.mu.Unlock()
	if !fresh {
		return nil
	}
	all, err := m.nodes.foldersOf(n)
	for _, dir := range all {
		err = errors.Join(err, m.syncFolder(dir))
		dir.done()
	}
	if err != nil {
		n.setFresh()
	}
	return err
}

// foldersOf opens the folders in which n has names. Its error is of those that could not
// be opened.
func (t *nodes) foldersOf(n *node) (all []place, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, l := range n.links {
		dir, e := t.folders.use(l.dir)
		switch {
		case e == nil:
			all = append(all, dir)
		case !isGone(e):
			err = e
		}
	}
	return all, err
}

func (n *node) setFresh() {
	n.mu.Lock()
	n.fresh = true
	n.mu.Unlock()
}
