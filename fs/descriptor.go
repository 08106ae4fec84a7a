package fs

import (
	"container/list"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A descriptor is an open O_PATH descriptor of a folder, closed when its last user
// is done with it.
type descriptor struct {
	fd    int
	users atomic.Int64 // the table of descriptors counts as one
}

func (d *descriptor) done() {
	if d.users.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// A place is a folder in use: its descriptor stays open until done is called.
type place struct {
	node *node
	*descriptor
}

// open opens the folder for what an O_PATH descriptor is not good for.
func (p place) open() (int, error) {
	return unix.Openat(p.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// descriptors bounds how many folders the mount has open. The kernel may know any
// number of them; one that was closed is opened again by its name in its parent.
type descriptors struct {
	mu     sync.Mutex // guards all below and node.dir; taken after nodes.mu
	recent list.List  // of *node, open ones that have a parent, last used first
	max    int        // length of recent
}

// A folderNode is what a node of a folder has besides.
type folderNode struct {
	open   *descriptor   // nil: closed
	recent *list.Element // in descriptors.recent; nil: closed, or must stay open
	parent *node         // nil: the root, or a folder that was removed or is to be looked up
	name   string        // in the backing folder parent
}

// descriptorLimit is how many descriptors this process may have (RLIMIT_NOFILE).
func descriptorLimit() int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 1024
	}
	return int(min(lim.Cur, 1<<20))
}

// use opens folder n if need be, and counts one user.
func (t *descriptors) use(n *node) (place, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.useLocked(n)
}

func (t *descriptors) useLocked(n *node) (place, error) {
	d := &n.dir
	if d.open == nil {
		if d.parent == nil {
			return place{}, unix.ESTALE
		}
		parent, err := t.useLocked(d.parent)
		if err != nil {
			return place{}, err
		}
		defer parent.done()
		fd, err := openFolder(parent.fd, d.name, n.inode)
		if err != nil {
			return place{}, err
		}
		t.keep(n, fd)
	} else if d.recent != nil {
		t.recent.MoveToFront(d.recent)
	}
	d.open.users.Add(1)
	return place{n, d.open}, nil
}

// set gives n, a new node, its place and the descriptor fd.
func (t *descriptors) set(n, parent *node, name string, fd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.dir.parent, n.dir.name = parent, name
	t.keep(n, fd)
}

// keep makes fd the descriptor of n and closes what was not used for longest.
func (t *descriptors) keep(n *node, fd int) {
	n.dir.open = &descriptor{fd: fd}
	n.dir.open.users.Store(1)
	if n.dir.parent == nil {
		return
	}
	n.dir.recent = t.recent.PushFront(n)
	if t.recent.Len() > t.max {
		t.drop(t.recent.Back().Value.(*node))
	}
}

// giveUp closes the descriptor of what was not used for longest, for something that needs
// one more. It returns false if there is none that can be opened again.
func (t *descriptors) giveUp() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.recent.Back()
	if last == nil {
		return false
	}
	t.drop(last.Value.(*node))
	return true
}

// drop closes n's descriptor when its users are done.
func (t *descriptors) drop(n *node) {
	if n.dir.open == nil {
		return
	}
	n.dir.open.done()
	n.dir.open = nil
	t.unlist(n)
}

// unlist takes n out of recent, if it is there: it is closed, or must stay open.
func (t *descriptors) unlist(n *node) {
	if n.dir.recent != nil {
		t.recent.Remove(n.dir.recent)
		n.dir.recent = nil
	}
}

// move notes that n is called name in parent now. With a nil parent it has no name
// any more, and stays open as long as the kernel knows it. The old parent is returned.
func (t *descriptors) move(n, parent *node, name string) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := n.dir.parent
	n.dir.parent, n.dir.name = parent, name
	if parent == nil {
		t.unlist(n)
	}
	return old
}

// cut forgets that parent lies somewhere in n, where n is about to lie in it: others have
// turned the two round. The folder of n in which parent lies is found anew when it is
// looked up. cut returns false if nothing was to be forgotten.
func (t *descriptors) cut(n, parent *node) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := parent; at != nil; at = at.dir.parent {
		if at.dir.parent == n {
			at.dir.parent = nil
			return true
		}
	}
	return false
}

// forget closes n's descriptor for good and returns its parent.
func (t *descriptors) forget(n *node) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(n)
	return n.dir.parent
}

// openFolder opens name in folder dirfd, which has to be the folder i.
func openFolder(dirfd int, name string, i inode) (int, error) {
	fd, err := unix.Openat(dirfd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || inodeOf(&st) != i {
		unix.Close(fd)
		return -1, unix.ESTALE
	}
	return fd, nil
}
