package fs

import (
	"golang.org/x/sys/unix"
)

// On a writable mount the kernel keeps what programs write in its pages and hands over
// many writes in one WRITE: when a handle is closed or synced, when pages have been dirty
// for half a minute, or when there are many (FUSE_WRITEBACK_CACHE). Since it knows more
// of such a file than this process does, it takes no answer for the size and the times of
// a regular file that it knows already, but tells them (fuse_get_cache_mask in the
// kernel's fs/fuse/dir.c). So where somebody else has changed a file, the kernel has to
// be shown another node in its place, see renew, or be made to see the end of it, see
// showEnd.

// A told is what the kernel goes by for a regular file.
type told struct {
	size  int64 // plain bytes
	mtime unix.Timespec
}

// wasTold tells whether e is as the kernel believes n to be.
func (n *node) wasTold(e *entry) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told == e.toTell()
}

// toTell is what the kernel goes by once it knows e.
func (e *entry) toTell() told {
	if e.store {
		return told{e.size, e.st.Mtim}
	}
	return told{e.st.Size, e.st.Mtim}
}

// wasToldMtime tells whether t is the mtime that the kernel believes n to have.
func (n *node) wasToldMtime(t unix.Timespec) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told.mtime == t
}

// tellMtime notes that a user has given n the mtime t through the mount.
func (n *node) tellMtime(t unix.Timespec) {
	n.mu.Lock()
	n.told.mtime = t
	n.mu.Unlock()
}

// tellSize notes that the kernel goes by size for n from now on.
func (n *node) tellSize(size int64) {
	n.mu.Lock()
	n.told.size = size
	n.mu.Unlock()
}

// tellEnd notes that n, which is no store, was written up to end.
func (n *node) tellEnd(end int64) {
	n.mu.Lock()
	n.told.size = max(n.told.size, end)
	n.mu.Unlock()
}

// renew lets go of the node of e, which dir has now, if nobody has it open and it was
// changed by others, so that the kernel gets another one.
func (m *mount) renew(dir place, e *entry) error {
	if !m.opt.Writable || e.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	key := e.shown()
	n := m.nodes.shownAs(key)
	if n == nil || n.wasTold(e) || m.files.has(key) {
		return nil
	}
	// What is known of e may be older than the end of a change through the mount.
	now := entry{backing: e.backing}
	if err := m.statAt(dir, &now); err != nil {
		return err
	}
	if e.store {
		if err := m.probe(dir, &now); err != nil {
			return err
		}
	}
	if inodeOf(&now.st) != key.inode {
		return unix.ESTALE
	}
	e.st, e.size = now.st, now.size // What was a store is shown as one, and opening it fails.
	if !n.wasTold(e) {
		m.nodes.replace(n, &m.files)
	}
	return nil
}

// replace makes sure that n's inode becomes a new node, unless somebody uses it: then it
// returns false.
func (t *nodes) replace(n *node, files *files) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Who opens it meanwhile enters its file first, and then looks at this.
	n.replaced = true
	if files.inUse(n.shown()) {
		n.replaced = false
		return false
	}
	t.detach(n)
	return true
}

// anew makes sure that i, a regular file that was just made, becomes a new node. The
// kernel may know another by its number that somebody else has removed.
func (t *nodes) anew(i inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range []shown{{i, true}, {i, false}} {
		delete(t.failures, s)
		if n := t.byInode[s]; n != nil {
			n.replaced = true
			t.detach(n)
		}
	}
}

// isReplaced tells whether the kernel has to look up n's name again.
func (t *nodes) isReplaced(n *node) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return n.replaced
}

// showEnd makes the kernel see the end of the store f, which was just opened, where it
// believes n to be of another size. ESTALE is returned if it has to look n's name up
// again.
func (m *mount) showEnd(n *node, f *file) error {
	size, ok := f.plainSize()
	if !ok {
		return nil
	}
	return m.showSize(n, size, f.readAt)
}

// showPlainEnd is showEnd for h, which was just opened and is no store.
func (m *mount) showPlainEnd(h *handle) error {
	size, told, err := h.ends()
	if err != nil || size == told {
		return err
	}
	if m.opt.Writable {
		m.dropPages(h.node)
		if size, _, err = h.ends(); err != nil {
			return err
		}
	}
	return m.showSize(h.node, size, func(b []byte, off int64) (int, error) { return unix.Pread(h.fd, b, off) })
}

// ends returns the size of the plain file of h, and what the kernel goes by, while
// nothing of that is changed through the mount.
func (h *handle) ends() (size, told int64, err error) {
	h.file.mu.Lock()
	defer h.file.mu.Unlock()
	var st unix.Stat_t
	err = unix.Fstat(h.fd, &st)
	return st.Size, h.node.toldSize(), err
}

func (n *node) toldSize() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told.size
}

// showSize makes the kernel see that n, of which read reads, has size bytes. ESTALE is
// returned if it has to look n's name up again.
func (m *mount) showSize(n *node, size int64, read func(b []byte, off int64) (int, error)) error {
	believed := n.toldSize()
	if size == believed {
		return nil
	}
	if !m.opt.Writable {
		m.dropAttr(n.shown()) // It takes the next answer for the size.
		n.tellSize(size)
		return nil
	}
	// In this order: a node is replaced before it stands for its inode no more.
	if m.nodes.shownAs(n.shown()) != n {
		if m.nodes.isReplaced(n) {
			return unix.ESTALE // Somebody else has just found it out.
		}
		return nil // What has lost its last name nobody else changes.
	}
	if size > believed {
		// To store something at the end extends the file (fuse_notify_store in
		// fs/fuse/dev.c), which others may do over and over. What lies before
		// that in the kernel's pages a user may be changing.
		page := int64(unix.Getpagesize())
		b := make([]byte, size-max(believed, (size-1)/page*page))
		got, err := read(b, size-int64(len(b)))
		if err == nil && got == len(b) && m.conn.InodeNotifyStoreCache(n.id, size-int64(len(b)), b) == nil {
			n.tellSize(size)
			return nil
		}
	}
	m.nodes.mu.Lock()
	n.replaced = true
	m.nodes.detach(n)
	m.nodes.mu.Unlock()
	return unix.ESTALE
}

// takeWritten is dropPages for f, or for all files if that is nil, where somebody may
// have written: the kernel has handed over what was closed.
func (m *mount) takeWritten(f *file) {
	for _, n := range m.handles.written(f) {
		m.dropPages(n)
	}
}
