package fs

import "golang.org/x/sys/unix"

// A stamp says which content of a backing file the kernel's pages show.
type stamp struct {
	generation uint64 // of a store
	mtime      unix.Timespec
	size       int64 // of the backing file
	known      bool
}

// pagesFit tells whether the pages that the kernel has of n show what a handle
// opened now will read, and notes that from now on they do. (Without
// FOPEN_KEEP_CACHE the kernel drops them.) none says that it has no pages at all,
// since n was never opened.
func (m *mount) pagesFit(n *node, f *file) (fit, none bool) {
	now := f.stamp()
	n.mu.Lock()
	defer n.mu.Unlock()
	none = !n.pages.known
	fit = now.known && (none || n.pages == now)
	if n.pages = now; !now.known {
		n.pages = stamp{size: -1, known: true} // Like no other.
	}
	return fit, none
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

// dropPages makes the kernel forget what it has of n's content.
func (m *mount) dropPages(n *node) {
	m.conn.InodeNotify(n.id, 0, 0)
}

// quieted is the ctime that users see of a backing inode whose ctime is c.
func (m *mount) quieted(s shown, c unix.Timespec) unix.Timespec {
	n := m.nodes.shownAs(s)
	if n == nil {
		return c
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.quiet.backing == c {
		return n.quiet.shown
	}
	return c
}

func (m *mount) setQuiet(s shown, q quiet) {
	if n := m.nodes.shownAs(s); n != nil {
		n.mu.Lock()
		n.quiet = q
		n.mu.Unlock()
	}
}
