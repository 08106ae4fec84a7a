package fs

import "errors"

// syncNames makes the names of n, which shows f, durable that are newer than the last call.
func (m *mount) syncNames(n *node, f *file) error {
	n.syncing.Lock()
	defer n.syncing.Unlock()
	n.mu.Lock()
	fresh, moved := n.fresh, n.moved
	n.fresh, n.moved = false, false
	n.mu.Unlock()
	if !fresh {
		return nil
	}
	all, err := m.nodes.foldersOf(n)
	if moved {
		// A folder alone has the file there; on btrfs it would keep its old name, too.
		err = errors.Join(err, f.fsync())
	}
	for _, dir := range all {
		err = errors.Join(err, m.syncFolder(dir))
		dir.done()
	}
	if err != nil {
		n.setFresh(moved)
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

// setFresh notes that n has a new name, and whether that lies in another folder than one
// that it lost.
func (n *node) setFresh(moved bool) {
	n.mu.Lock()
	n.fresh, n.moved = true, n.moved || moved
	n.mu.Unlock()
}
