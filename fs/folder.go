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

// A name is one name of a backing folder.
type name struct {
	backing string
	ino     uint64
	mode    uint32 // S_IFMT bits
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
	return status(m.syncFolder(dir))
}

// ReadDir is getdents64(2). The offset of a name is its place in the list.
func (m *mount) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return m.eachName(in, false, func(_ place, d fuse.DirEntry, _ *sight) bool {
		return out.AddDirEntry(d)
	})
}

// ReadDirPlus is ReadDir with a Lookup of each name.
func (m *mount) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return m.eachName(in, true, func(dir place, d fuse.DirEntry, s *sight) bool {
		to := out.AddDirLookupEntry(d)
		if to == nil {
			return false
		}
		// An answer without a node leaves the lookup to the kernel.
		if s.entry.backing != "" {
			m.lookedUp(dir, &s.entry, to)
		}
		return true
	})
}

// eachName calls add for the names of a folder from in.Offset on, until add says
// that there is no more room. With stat what they show has its attributes.
func (m *mount) eachName(in *fuse.ReadIn, stat bool, add func(place, fuse.DirEntry, *sight) bool) fuse.Status {
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
	l := look{m: m, dir: dir, stat: stat}
	if in.Offset == 0 || h.dir.names == nil {
		if h.dir.names, err = m.list(dir); err != nil {
			return status(err)
		}
		l.all = h.dir.names
	}
	// What is looked at earlier than for this answer may have changed since.
	names := h.dir.names
	for i := int(min(in.Offset, uint64(len(names)))); i < len(names); {
		sights := l.at(names[i:])
		for j := range sights {
			s, n := &sights[j], &names[i]
			i++
			ino := m.number(inode{dir.node.inode.dev, n.ino})
			d := fuse.DirEntry{Name: s.shown, Ino: ino, Mode: n.mode, Off: uint64(i)}
			if s.shown != "" && !add(dir, d, s) {
				return fuse.OK
			}
		}
	}
	return fuse.OK
}

// list returns the names of dir.
func (m *mount) list(dir place) ([]name, error) {
	ino := dir.node.inode.ino
	names := []name{{".", ino, unix.S_IFDIR}, {"..", ino, unix.S_IFDIR}}
	if m.isSingleRoot(dir.node) {
		e, err := m.findSingle(dir, m.single)
		if err != nil {
			return names, nil
		}
		return append(names, name{e.backing, e.st.Ino, unix.S_IFREG}), nil
	}
	return readNames(dir.fd, names)
}

// readNames appends to names those of the folder fd, an O_PATH descriptor.
func readNames(fd int, names []name) ([]name, error) {
	fd, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := nameBuffers.Get().(*[nameBuffer]byte)
	defer nameBuffers.Put(buf)
	for {
		n, err := unix.ReadDirent(fd, buf[:])
		if err != nil || n == 0 {
			return names, err
		}
		for rest := buf[:n]; len(rest) > 0; {
			var d fuse.DirEntry
			rest = rest[d.Parse(rest):]
			if d.Name == "." || d.Name == ".." {
				continue
			}
			if d.Mode == 0 {
				d.Mode = typeOf(fd, d.Name)
			}
			names = append(names, name{d.Name, d.Ino, d.Mode})
		}
	}
}

// typeOf is the type of what is called name in the folder fd, which some file systems do
// not tell with the names (getdents(2)). It is 0 if that is gone.
func typeOf(fd int, name string) uint32 {
	var st unix.Stat_t
	if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0
	}
	return st.Mode & unix.S_IFMT
}

const nameBuffer = 32 << 10 // bytes

var nameBuffers = sync.Pool{New: func() any { return new([nameBuffer]byte) }}
