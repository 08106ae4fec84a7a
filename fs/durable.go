package fs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// altered notes that a user has changed what the backing inode of n keeps besides the
// content: its mode, owner, times or extended attributes.
func (t *nodes) altered(n *node) {
	for _, n := range t.standing(n) {
		n.setAltered()
	}
}

func (n *node) setAltered() {
	n.mu.Lock()
	n.altered = true
	n.mu.Unlock()
}

// syncInode makes durable what was altered of n, which shows the store f, and what f was
// given back. To sync the store is not enough: that is fdatasync(2).
func (m *mount) syncInode(n *node, f *file) error {
	n.syncing.Lock()
	defer n.syncing.Unlock()
	n.mu.Lock()
	altered := n.altered
	n.altered = false
	n.mu.Unlock()
	if !altered && !f.hasPrivileges() {
		return nil
	}
	// From here on: whoever closes f now does it after that, see closeStore.
	f.times.Lock()
	f.kept = true
	f.times.Unlock()
	f.settle()
	err := f.fsync()
	if err != nil {
		n.setAltered()
	}
	return err
}

// fsync is fsync(2) of the backing inode of f.
func (f *file) fsync() error {
	fd, err := reopenQuietly(f.path, unix.O_RDONLY)
	if errors.Is(err, unix.EACCES) {
		return f.m.syncBacking() // An ordinary user may have taken the file from himself.
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

// syncFolder makes the names in dir durable.
func (m *mount) syncFolder(dir place) error {
	fd, err := dir.open()
	if err == unix.EACCES {
		return m.syncBacking() // An ordinary user may have taken the folder from himself.
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

// syncBacking makes durable what the file system of the mirrored folder has, which is
// names and attributes, and files that are no stores.
func (m *mount) syncBacking() error {
	dir, err := m.nodes.folders.use(m.root)
	if err != nil {
		return err
	}
	defer dir.done()
	fd, err := dir.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Syncfs(fd); err != nil {
		path, _ := os.Readlink(procPath(fd))
		return &os.PathError{Op: "syncfs", Path: path, Err: err}
	}
	return nil
}

// fail remembers that a file could not be closed durably while nobody used it.
func (t *nodes) fail(s shown, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failures == nil {
		t.failures = make(map[shown]error)
	}
	t.failures[s] = err
}

// failure is what fail remembered, once.
func (t *nodes) failure(s shown) error {
	t.mu.RLock()
	err := t.failures[s]
	t.mu.RUnlock()
	if err != nil {
		t.mu.Lock()
		delete(t.failures, s)
		t.mu.Unlock()
	}
	return err
}
