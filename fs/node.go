package fs

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// An inode names an inode of the backing file system for as long as it exists.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), st.Ino} }

// A node is what the kernel knows as one inode of the mount: a backing inode
// together with the way it is shown. (A store may appear twice: plain, and as it
// is; see names.go.)
type node struct {
	id    uint64 // the kernel's number for it, never used twice
	inode inode
	store bool       // shows the plain content of a store
	mode  uint32     // S_IFMT bits
	dir   folderNode // if it is a folder; guarded by descriptors.mu

	// Guarded by nodes.mu.
	lookups  uint64 // what the kernel has to forget
	held     int    // names of other nodes that lie in this folder
	links    []link // where it can be found, unless it is a folder
	nameless int    // O_PATH descriptor of what is no folder and has no name left, otherwise -1
	replaced bool   // its inode is, or is to become, another node: see nodes.replace

	mu      sync.Mutex // guards what follows
	pages   stamp      // state of the backing file that the kernel's pages show
	told    told       // of a regular file
	fresh   bool       // has a name that the disk may not know, or has lost one
	lost    bool       // has lost one, and not for another in the same folder
	altered bool       // see nodes.altered

	syncing sync.Mutex // held while fresh, lost and altered are made not so; taken before file.times, nodes.mu and mu
}

// A link is a name in a folder of the backing file system.
type link struct {
	dir  *node
	name string
}

func (n *node) isDir() bool { return n.mode == unix.S_IFDIR }

// is tells whether st is of n's inode. Its number may be used again for something of another
// type.
func (n *node) is(st *unix.Stat_t) bool {
	return inodeOf(st) == n.inode && st.Mode&unix.S_IFMT == n.mode
}

// nodes is the table of all nodes the kernel knows.
type nodes struct {
	mu       sync.RWMutex // guards what follows and the links of all nodes; held while names change
	byID     map[uint64]*node
	byInode  map[shown]*node
	last     uint64
	failures map[shown]error // see fail

	folders descriptors
}

// A shown tells nodes of one inode apart.
type shown struct {
	inode inode
	store bool
}

func (n *node) shown() shown { return shown{n.inode, n.store} }

// shown is that of the node of e.
func (e *entry) shown() shown { return shown{inodeOf(&e.st), e.store} }

func newNodes() *nodes {
	t := &nodes{byID: make(map[uint64]*node), byInode: make(map[shown]*node)}
	t.folders.max = descriptorLimit() / 4
	return t
}

func (t *nodes) get(id uint64) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

// shownAs returns the node of s, nil if the kernel knows none.
func (t *nodes) shownAs(s shown) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byInode[s]
}

// standing returns n, and the node that stands for its inode now if n was replaced.
func (t *nodes) standing(n *node) []*node {
	if now := t.shownAs(n.shown()); now != nil && now != n {
		return []*node{n, now}
	}
	return []*node{n}
}

// addRoot makes the node with number 1 for the folder fd.
func (t *nodes) addRoot(fd int) (*node, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	t.last = 1
	n := &node{id: 1, inode: inodeOf(&st), mode: unix.S_IFDIR, nameless: -1, lookups: 1}
	t.folders.set(n, nil, "", fd)
	t.byID[1], t.byInode[n.shown()] = n, n
	return n, nil
}

// bind returns the node of entry e of folder dir, counting one lookup.
func (t *nodes) bind(dir place, e *entry) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := e.shown()
	n := t.byInode[key]
	if n == nil || !n.is(&e.st) {
		n = &node{id: t.last + 1, inode: key.inode, store: e.store, mode: e.st.Mode & unix.S_IFMT, nameless: -1, told: e.toTell()}
		if n.isDir() {
			fd, err := openFolder(dir.fd, e.backing, n.inode)
			if err != nil {
				return nil, err
			}
			t.folders.set(n, dir.node, e.backing, fd)
			dir.node.held++
		}
		t.last++
		t.byID[n.id], t.byInode[key] = n, n
	} else if n == dir.node {
		return nil, unix.ELOOP // Somebody has mounted a folder in itself.
	} else if n.isDir() && n.id != 1 {
		t.moveFolder(n, dir.node, e.backing)
	}
	n.lookups++
	if !n.isDir() {
		t.addLink(n, dir.node, e)
	}
	return n, nil
}

// moveFolder notes that folder n is called name in dir, or has no name if dir is
// nil. It is called with mu held.
func (t *nodes) moveFolder(n, dir *node, name string) {
	if dir != nil {
		dir.held++
		if t.folders.cut(n, dir) {
			n.held--
		}
	}
	if old := t.folders.move(n, dir, name); old != nil {
		old.held--
		t.reap(old)
	}
}

// addLink notes that n is to be found under e.backing in dir. Names that others
// took away behind the mount's back are dropped when they outnumber the true ones.
func (t *nodes) addLink(n, dir *node, e *entry) {
	l := link{dir, e.backing}
	if slices.Contains(n.links, l) {
		return
	}
	if len(n.links) >= 4 && uint64(len(n.links)) > 2*uint64(e.st.Nlink) {
		for _, l := range slices.Clone(n.links) {
			var st unix.Stat_t
			if isGone(t.found(n, l, &st)) {
				t.dropLink(n, l)
			}
		}
	}
	n.links = append(n.links, l)
	dir.held++
}

// dropLink forgets that n is to be found at l.
func (t *nodes) dropLink(n *node, l link) {
	if i := slices.Index(n.links, l); i >= 0 {
		n.links = slices.Delete(n.links, i, i+1)
		l.dir.held--
		t.reap(l.dir)
	}
}

// found fills st if n still is at l. An error for which isGone holds says that it is not.
func (t *nodes) found(n *node, l link, st *unix.Stat_t) error {
	dir, err := t.find(n, l, st)
	if err == nil {
		dir.done()
	}
	return err
}

// find is found with the folder, which stays open until done is called.
func (t *nodes) find(n *node, l link, st *unix.Stat_t) (place, error) {
	dir, err := t.folders.use(l.dir)
	if err != nil {
		return place{}, err
	}
	err = unix.Fstatat(dir.fd, l.name, st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && !n.is(st) {
		err = unix.ESTALE
	}
	if err != nil {
		dir.done()
		return place{}, err
	}
	return dir, nil
}

// isGone tells whether err says that something is not where it was, and not just that
// nobody could look.
func isGone(err error) bool {
	return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ESTALE
}

// forget takes back lookups of node id.
func (t *nodes) forget(id, lookups uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byID[id]; n != nil && id != 1 {
		n.lookups -= min(lookups, n.lookups)
		t.reap(n)
	}
}

// reap drops n when neither the kernel nor another node needs it.
func (t *nodes) reap(n *node) {
	if n.lookups > 0 || n.held > 0 || n.id == 1 || t.byID[n.id] != n {
		return
	}
	delete(t.byID, n.id)
	t.detach(n)
	for len(n.links) > 0 {
		t.dropLink(n, n.links[0])
	}
	t.letGo(n)
	if n.isDir() {
		if parent := t.folders.forget(n); parent != nil {
			parent.held--
			t.reap(parent)
		}
	}
}

// detach makes sure that a new inode with n's number becomes a new node. It is
// called when n's last name is gone.
func (t *nodes) detach(n *node) {
	if t.byInode[n.shown()] == n {
		delete(t.byInode, n.shown())
	}
}

// hold makes sure that the node of e is found although e, its last name, is about
// to go: the kernel may know it and open it a moment later. It returns the node if
// that is so. A folder is opened, and stays so without a name. It is called with mu held.
func (t *nodes) hold(dir place, e *entry) *node {
	n := t.byInode[e.shown()]
	if n != nil && n.isDir() {
		if p, err := t.folders.use(n); err == nil {
			p.done()
		}
		return nil
	}
	if n == nil || n.nameless >= 0 || e.st.Nlink > 1 {
		return nil
	}
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir.fd, e.backing, flags, 0)
	for err == unix.EMFILE && t.folders.giveUp() {
		fd, err = unix.Openat(dir.fd, e.backing, flags, 0)
	}
	if err != nil {
		return nil
	}
	n.nameless = fd
	return n
}

// letGo undoes hold: n, if it is not nil, has a name. It is called with mu held.
func (t *nodes) letGo(n *node) {
	if n != nil && n.nameless >= 0 {
		unix.Close(n.nameless)
		n.nameless = -1
	}
}

// letGoAll closes the descriptors of all nodes, which nobody asks for any more.
func (t *nodes) letGoAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.byID {
		t.letGo(n)
		if n.isDir() {
			t.folders.forget(n)
		}
	}
}

// named notes that n has got a name.
func (t *nodes) named(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.letGo(n)
}
