package fs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// valid is how long the kernel may believe a name or attributes. Others may change
// the backing folder at any time.
const valid = time.Second

// storeBlock is st_blksize of store-backed files: what a program should read and
// write at once, in bytes.
const storeBlock = 64 << 10

// lookedUp fills out with entry e of dir and counts a lookup of its node.
func (m *mount) lookedUp(dir place, e *entry, out *fuse.EntryOut) error {
	if err := m.renew(dir, e); err != nil {
		return err
	}
	n, err := m.nodes.bind(dir, e)
	if err != nil {
		return err
	}
	m.fillEntry(n, e, out)
	return nil
}

func (m *mount) fillEntry(n *node, e *entry, out *fuse.EntryOut) {
	out.NodeId = n.id
	out.SetEntryTimeout(valid)
	out.SetAttrTimeout(valid)
	m.fill(n, &e.st, e.size, &out.Attr)
}

// fill sets out to the attributes of n, whose backing inode is st and whose plain
// size is size if it shows a store.
func (m *mount) fill(n *node, st *unix.Stat_t, size int64, out *fuse.Attr) {
	if n.store {
		m.showTimes(n, st)
		// A store that is open for writing has room reserved behind its end.
		st.Blocks = min(st.Blocks, (st.Size+4095)/4096*8)
		st.Size, st.Blksize = size, storeBlock
	} else if st.Blocks == 0 && n.mode == unix.S_IFREG && m.opt.Writable {
		// The kernel may have all of the content, now or while it believes this, and
		// tar(1) reads nothing of a file without blocks.
		st.Blocks = 1
	}
	if m.isSingleRoot(n) {
		st.Mode, st.Nlink = unix.S_IFDIR|0o555, 2
	}
	*out = fuse.Attr{
		Ino:       m.number(n.inode),
		Size:      uint64(st.Size),
		Blocks:    uint64(st.Blocks),
		Atime:     uint64(st.Atim.Sec),
		Atimensec: uint32(st.Atim.Nsec),
		Mtime:     uint64(st.Mtim.Sec),
		Mtimensec: uint32(st.Mtim.Nsec),
		Ctime:     uint64(st.Ctim.Sec),
		Ctimensec: uint32(st.Ctim.Nsec),
		Mode:      st.Mode,
		Nlink:     uint32(st.Nlink),
		Owner:     fuse.Owner{Uid: st.Uid, Gid: st.Gid},
		Rdev:      uint32(st.Rdev),
		Blksize:   uint32(st.Blksize),
	}
}

// number is the number that users see of a backing inode. A file system mounted below the
// folder numbers its inodes anew.
func (m *mount) number(i inode) uint64 {
	if i.dev != m.root.inode.dev {
		return i.ino ^ i.dev<<32
	}
	return i.ino
}

// showTimes puts the times that users see of n, a store, into st.
func (m *mount) showTimes(n *node, st *unix.Stat_t) {
	if f := m.files.get(n.shown()); f != nil {
		f.showTimes(st)
		m.files.release(f)
	}
}

// attr fills out with the present attributes of n.
func (m *mount) attr(n *node, out *fuse.Attr) error {
	var st unix.Stat_t
	if n.isDir() {
		dir, err := m.nodes.folders.use(n)
		if err != nil {
			return err
		}
		defer dir.done()
		if err := unix.Fstat(dir.fd, &st); err != nil {
			return err
		}
		m.fill(n, &st, 0, out)
		return nil
	}
	f := m.files.get(n.shown())
	switch {
	case f != nil:
		defer m.files.release(f)
		return m.attrOpen(n, f, out)
	case n.store:
		return m.attrClosed(n, out)
	}
	if err := m.nodes.stat(n, &st); err != nil {
		return err
	}
	m.fill(n, &st, 0, out)
	return nil
}

// attrOpen is attr where f, the file of n, is open.
func (m *mount) attrOpen(n *node, f *file, out *fuse.Attr) (err error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.path, &st); err != nil {
		return err
	}
	var size int64
	if n.store {
		if size, err = m.sizeOf(f, &st); err != nil {
			return err
		}
	}
	m.fill(n, &st, size, out)
	return nil
}

// attrClosed is attr for a store that is not open.
func (m *mount) attrClosed(n *node, out *fuse.Attr) error {
	var st unix.Stat_t
	if err := m.nodes.stat(n, &st); err != nil {
		return err
	}
	p, ok := m.probes.get(&st)
	if !ok {
		f, err := m.pin(n)
		if err != nil {
			return err
		}
		defer m.files.release(f)
		if p.size, err = m.sizeOf(f, &st); err != nil {
			return err
		}
	}
	m.fill(n, &st, p.size, out)
	return nil
}

// GetAttr is stat(2).
func (m *mount) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := m.nodes.get(in.NodeId)
	switch {
	case n == nil:
		return fuse.Status(unix.ESTALE)
	case m.ending.Load():
		return fuse.EIO
	}
	out.SetTimeout(valid)
	return status(m.attr(n, &out.Attr))
}

// dropAttr makes the kernel forget the attributes of a node.
func (m *mount) dropAttr(s shown) {
	if n := m.nodes.shownAs(s); n != nil {
		m.conn.InodeNotify(n.id, -1, 0)
	}
}
