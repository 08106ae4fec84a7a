package fs

import "errors"

// syncNames makes durable what names n, which shows f, has got and lost since the last call.
func (m *mount) syncNames(n *node, f *file) error {
	n.syncing.Lock()
	defer n.syncing.Unlock()
	n.mu.Lock()
	fresh, lost := n.fresh, n.lost
	n.fresh, n.lost = false, false
	n.mu.Unlock()
	if !fresh {
		return nil
	}
	all, err := m.nodes.foldersOf(n)
	if lost {
		// The folders of its names say nothing of the one that had another: on btrfs the
		// file would keep that.
		err = errors.Join(err, f.fsync())
	}
	for _, dir := range all {
		err = errors.Join(err, m.syncFolder(dir))
		dir.done()
	}
	if err != nil {
		n.setFresh(lost)
	}
	return err
}

// foldersOf opens the folders in which n has names, each once. Its error is of those that
// could not be opened.
func (t *nodes) foldersOf(n *node) (all []place, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	seen := make(map[*node]bool)
	for _, l := range n.links {
		if seen[l.dir] {
			continue
		}
		seen[l.dir] = true
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

// setFresh notes that the names of n have changed, and whether it has lost one, and not for
// another in the same folder.
func (n *node) setFresh(lost bool) {
	n.mu.Lock()
	n.fresh, n.lost = true, n.lost || lost
	n.mu.Unlock()
}
