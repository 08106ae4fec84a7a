package fs

import "errors"

// syncNames makes the names of n durable that are newer than the last call.
func (t *nodes) syncNames(n *node) error {
	n.naming.Lock()
	defer n.naming.Unlock()
	n.mu.Lock()
	fresh := n.fresh
	n.fresh = false
	n.mu.Unlock()
	if !fresh {
		return nil
	}
	var errs []error
	for _, dir := range t.foldersOf(n) {
		errs = append(errs, dir.sync())
		dir.done()
	}
	err := errors.Join(errs...)
	if err != nil {
		n.setFresh()
	}
	return err
}

// foldersOf opens the folders in which n has names.
func (t *nodes) foldersOf(n *node) []place {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var all []place
	for _, l := range n.links {
		if dir, err := t.folders.use(l.dir); err == nil {
			all = append(all, dir)
		}
	}
	return all
}

func (n *node) setFresh() {
	n.mu.Lock()
	n.fresh = true
	n.mu.Unlock()
}
