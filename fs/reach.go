package fs

import "golang.org/x/sys/unix"

// stat fills st for a node that is not a folder and not open.
func (t *nodes) stat(n *node, st *unix.Stat_t) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n.nameless >= 0 {
		return unix.Fstat(n.nameless, st)
	}
	for _, l := range n.links {
		if err := t.found(n, l, st); !isGone(err) {
			return err
		}
	}
	return unix.ESTALE
}

// atName calls do with the descriptor of a folder and a name in it that is n's, which is
// not a folder; it reports false when n has none.
func (t *nodes) atName(n *node, do func(dirfd int, name string) error) (bool, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n.nameless >= 0 {
		return false, nil
	}
	var st unix.Stat_t
	for _, l := range n.links {
		dir, err := t.find(n, l, &st)
		if isGone(err) {
			continue
		}
		if err != nil {
			return true, err
		}
		defer dir.done()
		return true, do(dir.fd, l.name)
	}
	return false, nil
}

// openPath opens a descriptor of a node that is not a folder, and returns one of its
// names, which is empty if it has none: O_PATH, or, if that is wished and allowed, one
// to read a regular file by.
func (t *nodes) openPath(n *node, read bool) (fd int, name string, readable bool, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n.nameless >= 0 {
		fd, err := unix.FcntlInt(uintptr(n.nameless), unix.F_DUPFD_CLOEXEC, 0)
		return fd, "", false, err
	}
	for _, l := range n.links {
		if fd, readable, err := t.openAt(n, l, read); !isGone(err) {
			return fd, l.name, readable, err
		}
	}
	return -1, "", false, unix.ESTALE
}

// openAt is openPath for the name l.
func (t *nodes) openAt(n *node, l link, read bool) (fd int, readable bool, err error) {
	dir, err := t.folders.use(l.dir)
	if err != nil {
		return -1, false, err
	}
	defer dir.done()
	if read {
		fd, err = openNoAtime(dir.fd, l.name)
		read = err == nil
	}
	if !read {
		fd, err = unix.Openat(dir.fd, l.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return -1, false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || !n.is(&st) {
		unix.Close(fd)
		return -1, false, unix.ESTALE
	}
	return fd, read, nil
}
