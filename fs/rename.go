package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Rename is renameat2(2).
func (m *mount) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	r := renaming{m: m, flags: uint(in.Flags)}
	var err error
	if r.fromDir, err = m.folderFor(in.NodeId); err != nil {
		return status(err)
	}
	defer r.fromDir.done()
	if r.toDir, err = m.folderFor(in.Newdir); err != nil {
		return status(err)
	}
	defer r.toDir.done()
	if err := r.prepare(oldName, newName); err != nil {
		return status(err)
	}
	if r.flags&unix.RENAME_EXCHANGE != 0 {
		return status(r.exchange())
	}
	return status(r.replace())
}

// A renaming is one rename: from becomes what has backing name target in toDir, and
// takes the place of to if that exists.
type renaming struct {
	m              *mount
	flags          uint
	fromDir, toDir place
	from, to       entry
	exists         bool // to
	target         string
}

func (r *renaming) prepare(oldName, newName string) (err error) {
	if r.flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return unix.EINVAL
	}
	if r.from, err = r.m.find(r.fromDir, oldName); err != nil {
		return err
	}
	r.target = newName
	if r.from.store {
		var ok bool
		if r.target, ok = StoreName(newName); !ok {
			return unix.ENAMETOOLONG
		}
	}
	r.to, err = r.m.find(r.toDir, newName)
	if err != nil && err != unix.ENOENT {
		return err
	}
	r.exists = err == nil
	return nil
}

// commit makes sure that what will be under a new name after the death of this process
// is whole. It returns the file of e, with one reference more, if that is open.
func (m *mount) commit(e *entry) (*file, error) {
	f := m.files.get(e.shown())
	if f == nil {
		return nil, nil
	}
	m.takeWritten(f)
	if err := f.commit(); err != nil {
		m.files.release(f)
		return nil, err
	}
	return f, nil
}

func (r *renaming) replace() error {
	if r.exists && r.flags&unix.RENAME_NOREPLACE != 0 {
		return unix.EEXIST
	}
	f, err := r.m.commit(&r.from)
	if err != nil {
		return err
	}
	if f != nil {
		defer r.m.files.release(f)
		defer f.touched()
	}
	if err := r.move(); err != nil {
		return err
	}
	if r.exists {
		r.m.lostName(&r.to)
	}
	return nil
}

func (r *renaming) move() error {
	t := r.m.nodes
	t.mu.Lock()
	defer t.mu.Unlock()
	inPlace := r.exists && r.to.backing == r.target
	var held *node
	if r.exists {
		held = t.hold(r.toDir, &r.to)
	}
	if err := renameAt(r.fromDir.fd, r.from.backing, r.toDir.fd, r.target, inPlace); err != nil {
		t.letGo(held)
		return err
	}
	// A store and a plain file of one name lie side by side: the new one comes
	// first, so that the name never shows nothing.
	if r.exists && !inPlace {
		if err := unix.Unlinkat(r.toDir.fd, r.to.backing, 0); err != nil {
			renameAt(r.toDir.fd, r.target, r.fromDir.fd, r.from.backing, false)
			t.letGo(held)
			return err
		}
	}
	t.moved(&r.from, link{r.fromDir.node, r.from.backing}, link{r.toDir.node, r.target})
	if r.exists {
		t.unlinked(r.toDir.node, &r.to)
	}
	return nil
}

// renameAt renames and, unless replace is set, fails with EEXIST rather than
// replace something that the mount does not show under the new name.
func renameAt(fromDir int, from string, toDir int, to string, replace bool) error {
	if replace {
		return unix.Renameat2(fromDir, from, toDir, to, 0)
	}
	err := unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL {
		return err
	}
	// The backing file system may not know the flag (rename(2)).
	var st unix.Stat_t
	if err := unix.Fstatat(toDir, to, &st, unix.AT_SYMLINK_NOFOLLOW); err != unix.ENOENT {
		return unix.EEXIST
	}
	return unix.Renameat2(fromDir, from, toDir, to, 0)
}

// exchange swaps two names, after what is open is committed, as for replace. A store
// and something else can't change places, since their backing names differ.
func (r *renaming) exchange() error {
	if !r.exists {
		return unix.ENOENT
	}
	back := r.from.backing
	if r.from.store != r.to.store {
		return unix.EINVAL
	}
	for _, e := range []*entry{&r.from, &r.to} {
		f, err := r.m.commit(e)
		if err != nil {
			return err
		}
		if f != nil {
			defer r.m.files.release(f)
			defer f.touched()
		}
	}
	t := r.m.nodes
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := unix.Renameat2(r.fromDir.fd, back, r.toDir.fd, r.target, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	t.moved(&r.from, link{r.fromDir.node, back}, link{r.toDir.node, r.target})
	t.moved(&r.to, link{r.toDir.node, r.target}, link{r.fromDir.node, back})
	return nil
}

// moved notes that e has changed its place. It is called with mu held.
func (t *nodes) moved(e *entry, from, to link) {
	n := t.byInode[e.shown()]
	if n == nil {
		return
	}
	n.setFresh(from.dir != to.dir)
	if n.isDir() {
		t.moveFolder(n, to.dir, to.name)
		return
	}
	t.addLink(n, to.dir, &entry{backing: to.name, st: e.st})
	t.dropLink(n, from)
}
