package fs

import (
	"strings"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A folder is an open folder: its names as they were when reading began.
type folder struct {
	mu    sync.Mutex // guards names; a handle may be shared
	names []name
}

// A name is one name that a folder shows.
type name struct {
	shown string
	entry entry // with st.Ino and the type in st.Mode, as getdents64(2) gives them
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
	return status(m.nodes.syncFolder(h.node))
}

// ReadDir is getdents64(2). The offset of a name is its place in the list.
func (m *mount) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return m.eachName(in, func(dir place, d fuse.DirEntry, _ *entry) bool {
		return out.AddDirEntry(d)
	})
}

// ReadDirPlus is ReadDir with a Lookup of each name.
func (m *mount) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return m.eachName(in, func(dir place, d fuse.DirEntry, e *entry) bool {
		to := out.AddDirLookupEntry(d)
		if to == nil {
			return false
		}
		// An answer without a node leaves the lookup to the kernel.
		if e.backing == "" || m.statAt(dir, e) != nil {
			return true
		}
		if e.store && !m.isSingleRoot(dir.node) {
			m.probe(dir, e)
		}
		m.lookedUp(dir, e, to)
		return true
	})
}

// eachName calls add for the names of a folder from in.Offset on, until add says
// that there is no more room. The names "." and ".." come with an empty entry.
func (m *mount) eachName(in *fuse.ReadIn, add func(place, fuse.DirEntry, *entry) bool) fuse.Status {
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
		at := h.dir.names[i]
		d := fuse.DirEntry{Name: at.shown, Ino: at.entry.st.Ino, Mode: at.entry.st.Mode, Off: uint64(i) + 1}
		if !add(dir, d, &at.entry) {
			break
		}
	}
	return fuse.OK
}

// list returns the names that dir shows.
func (m *mount) list(dir place) ([]name, error) {
	names := []name{dotName(".", dir.node), dotName("..", dir.node)}
	if m.isSingleRoot(dir.node) {
		e, err := m.findSingle(dir, m.single)
		if err != nil {
			return names, nil
		}
		return append(names, name{m.single, e}), nil
	}
	backing, err := readNames(dir.fd)
	if err != nil {
		return nil, err
	}
	for _, e := range backing {
		shown, ok := m.shownName(dir, &e)
		if ok {
			names = append(names, name{shown, e})
		}
	}
	return names, nil
}

func dotName(s string, dir *node) name {
	n := name{shown: s}
	n.entry.st.Ino, n.entry.st.Mode = dir.inode.ino, unix.S_IFDIR
	return n
}

// shownName is the name under which e, a name of the backing folder dir, appears,
// and sets e.store. It is false when e is gone.
func (m *mount) shownName(dir place, e *entry) (string, bool) {
	strip, ok := stripped(e.backing)
	if e.st.Mode != unix.S_IFREG || !ok && !isLong(e.backing) {
		return e.backing, true
	}
	if m.statAt(dir, e) != nil {
		return "", false
	}
	if isLong(e.backing) {
		m.probe(dir, e)
		return e.backing, true
	}
	if m.asItself(dir, e) {
		e.store = false
		return e.backing, true
	}
	return strip, true
}

// readNames reads all names of the folder fd, an O_PATH descriptor.
func readNames(fd int) ([]entry, error) {
	fd, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	var all []entry
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
			e := entry{backing: strings.Clone(d.Name)}
			e.st.Ino, e.st.Mode = d.Ino, d.Mode
			all = append(all, e)
		}
	}
}
