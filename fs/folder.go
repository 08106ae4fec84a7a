package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A folder is an open folder: its names as they were when reading began.
type folder struct {
	mu    sync.Mutex // guards names; a handle may be shared
	names []name
}

// A name is one name of a folder.
type name struct {
	shown   string // in the mount
	backing string // in the backing folder; empty for "." and ".."
	ino     uint64
	mode    uint32 // S_IFMT bits
	store   bool
}

// OpenDir opens a folder.
func (m *mount) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := m.nodes.get(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	out.Fh = m.handles.add(&handle{node: n, fd: -1, dir: &folder{}})
	return fuse.OK
}

// ReleaseDir ends the handle of a folder.
func (m *mount) ReleaseDir(in *fuse.ReleaseIn) { m.handles.remove(in.Fh) }

// FsyncDir is fsync(2) of a folder.
func (m *mount) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	dir, err := m.nodes.folders.use(h.node)
	if err != nil {
		return status(err)
	}
	defer dir.done()
	return status(dir.sync())
}

// ReadDir is getdents64(2). The offset of a name is its place in the list.
func (m *mount) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return m.eachName(in, func(_ place, d fuse.DirEntry, _ *name) bool {
		return out.AddDirEntry(d)
	})
}

// ReadDirPlus is ReadDir with a Lookup of each name.
func (m *mount) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return m.eachName(in, func(dir place, d fuse.DirEntry, n *name) bool {
		to := out.AddDirLookupEntry(d)
		if to == nil {
			return false
		}
		// An answer without a node leaves the lookup to the kernel.
		e := entry{backing: n.backing}
		if n.backing == "" || m.statAt(dir, &e) != nil {
			return true
		}
		if n.store {
			m.probe(dir, &e)
			e.store = e.store || m.isSingleRoot(dir.node)
		}
		m.lookedUp(dir, &e, to)
		return true
	})
}

// eachName calls add for the names of a folder from in.Offset on, until add says
// that there is no more room.
func (m *mount) eachName(in *fuse.ReadIn, add func(place, fuse.DirEntry, *name) bool) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil || h.dir == nil {
		return fuse.EBADF
	}
	dir, err := m.nodes.folders.use(h.node)
	if err != nil {
		return status(err)
	}
	defer dir.done()
	h.dir.mu.Lock()
	defer h.dir.mu.Unlock()
	if in.Offset == 0 || h.dir.names == nil {
		names, err := m.list(dir)
		if err != nil {
			return status(err)
		}
		h.dir.names = names
	}
	for i := int(min(in.Offset, uint64(len(h.dir.names)))); i < len(h.dir.names); i++ {
		at := &h.dir.names[i]
		d := fuse.DirEntry{Name: at.shown, Ino: at.ino, Mode: at.mode, Off: uint64(i) + 1}
		if !add(dir, d, at) {
			break
		}
	}
	return fuse.OK
}

// list returns the names that dir shows.
func (m *mount) list(dir place) ([]name, error) {
	ino := dir.node.inode.ino
	names := []name{{shown: ".", ino: ino, mode: unix.S_IFDIR}, {shown: "..", ino: ino, mode: unix.S_IFDIR}}
	if m.isSingleRoot(dir.node) {
		e, err := m.findSingle(dir, m.single)
		if err != nil {
			return names, nil
		}
		return append(names, name{m.single, e.backing, e.st.Ino, unix.S_IFREG, true}), nil
	}
	backing, err := readNames(dir.fd)
	if err != nil {
		return nil, err
	}
	m.probeAll(dir, backing)
	for _, n := range backing {
		if m.show(dir, &n) {
			names = append(names, n)
		}
	}
	return names, nil
}

// mayBeStore tells whether n can show a store, by its name and type.
func (n *name) mayBeStore() bool {
	_, ok := stripped(n.backing)
	return n.mode == unix.S_IFREG && (ok || isLong(n.backing))
}

// show sets n.shown and n.store for a name of the backing folder dir. It is false
// when that is gone.
func (m *mount) show(dir place, n *name) bool {
	n.shown = n.backing
	if !n.mayBeStore() {
		return true
	}
	e := entry{backing: n.backing}
	if m.statAt(dir, &e) != nil {
		return false
	}
	if isLong(n.backing) {
		m.probe(dir, &e)
		n.store = e.store
		return true
	}
	if !m.asItself(dir, &e) {
		n.shown, _ = stripped(n.backing)
		n.store = true
	}
	return true
}

// readNames reads all names of the folder fd, an O_PATH descriptor.
func readNames(fd int) ([]name, error) {
	fd, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	var all []name
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n == 0 {
			return all, err
		}
		for rest := buf[:n]; len(rest) > 0; {
			var d fuse.DirEntry
			rest = rest[d.Parse(rest):]
			if d.Name == "." || d.Name == ".." {
				continue
			}
			all = append(all, name{backing: d.Name, ino: d.Ino, mode: d.Mode})
		}
	}
}
