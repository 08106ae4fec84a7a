package fs

import "golang.org/x/sys/unix"

// A stamp says which content of a backing file the kernel's pages show.
type stamp struct {
	generation uint64 // of a store
	mtime      unix.Timespec
	size       int64 // of the backing file
	known      bool
}

// showContent drops the pages that the kernel has of n unless they show what a handle of f
// opened now will read, and notes that from now on they do. none says that there are
// none, since n was never opened.
//
// FOPEN_KEEP_CACHE is no way to do that: the kernel would drop them when who opens n goes
// on, and others who open it meanwhile keep them.
func (m *mount) showContent(n *node, f *file) (none bool) {
	now := f.stamp()
	n.mu.Lock()
	shown := n.pages
	n.mu.Unlock()
	if shown.known && shown != now {
		m.dropPages(n)
	}
	if !now.known {
		now = stamp{size: -1, known: true} // Like no other.
	}
	n.mu.Lock()
	n.pages = now
	n.mu.Unlock()
	return !shown.known
}

// stamp is the state of f's content. While a store is open for writing nobody else
// changes it, so its times and its generation, which move with each commit, say
// nothing.
func (f *file) stamp() stamp {
	f.mu.RLock()
	defer f.mu.RUnlock()
	switch {
	case f.s != nil && f.writable:
		return stamp{known: true}
	case f.s != nil:
		return f.opened
	}
	var st unix.Stat_t
	if unix.Fstat(f.path, &st) != nil {
		return stamp{}
	}
	return stamp{mtime: st.Mtim, size: st.Size, known: true}
}

// keepPages notes that the kernel's pages show the present state of f, which the
// mount alone has changed: generation and size, in plain bytes, are those of its store.
func (m *mount) keepPages(f *file, generation uint64, size int64) {
	n := m.nodes.shownAs(f.shown)
	if n == nil {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(f.path, &st) != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pages = stamp{generation: generation, mtime: st.Mtim, size: st.Size, known: true}
	n.told = told{size, st.Mtim}
}

// dropPages makes the kernel hand over what was written to n and is in its pages alone,
// and forget all that it has of n's content.
func (m *mount) dropPages(n *node) {
	m.conn.InodeNotify(n.id, 0, 0)
}
