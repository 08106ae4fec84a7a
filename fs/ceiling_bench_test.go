package fs

import (
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A ceiling is the least that a mount can do: it shows files whose names, attributes
// and bytes it has in memory. Whatever a mount is slower than that is its own doing.
type ceiling struct {
	fuse.RawFileSystem
	nodes []ceilingNode // that with the number n is at n-1
}

// A ceilingNode is a file, or with kids a folder.
type ceilingNode struct {
	bytes []byte
	kids  map[string]uint64 // numbers by name
	list  []fuse.DirEntry
}

// MountCeiling shows the bytes of the file source at dir/bench, or the files of the
// folder source in dir, with the options of a mount, and served by go-fuse alone.
func MountCeiling(source, dir string, o Options) (*Server, error) {
	o.setDefaults()
	c := &ceiling{RawFileSystem: fuse.NewDefaultRawFileSystem()}
	if err := c.load(source); err != nil {
		return nil, err
	}
	m := &mount{opt: o, log: o.Log, nodes: newNodes(), asRoot: os.Geteuid() == 0}
	m.files.init()
	fd, err := m.attach(source, dir)
	if err != nil {
		return nil, err
	}
	// By this name go-fuse knows that the mount is made.
	server, err := fuse.NewServer(c, fmt.Sprintf("/dev/fd/%d", fd), m.options())
	if err != nil {
		return nil, err
	}
	device, err := deviceAt(dir)
	if err != nil {
		return nil, err
	}
	return m.start(server.Serve, dir, device), nil
}

func (c *ceiling) load(source string) error {
	fi, err := os.Stat(source)
	if err != nil {
		return err
	}
	root := c.add(nil)
	if !fi.IsDir() {
		return c.addFile(root, "bench", source)
	}
	folders := map[string]uint64{source: root}
	return filepath.WalkDir(source, func(path string, e iofs.DirEntry, err error) error {
		in := folders[filepath.Dir(path)]
		switch {
		case err != nil || path == source:
			return err
		case e.IsDir():
			folders[path] = c.add(nil)
			c.name(in, e.Name(), folders[path])
			return nil
		case !e.Type().IsRegular():
			return nil
		}
		return c.addFile(in, e.Name(), path)
	})
}

func (c *ceiling) addFile(in uint64, name, source string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	b := []byte{}
	if n := int(fi.Size()); n > 0 {
		b, err = unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	c.name(in, name, c.add(b))
	return err
}

// add makes a node with these bytes, without any a folder, and returns its number.
func (c *ceiling) add(b []byte) uint64 {
	n := ceilingNode{bytes: b}
	if b == nil {
		n.kids = map[string]uint64{}
	}
	c.nodes = append(c.nodes, n)
	return uint64(len(c.nodes))
}

func (c *ceiling) name(in uint64, name string, node uint64) {
	n := &c.nodes[in-1]
	n.kids[name] = node
	var a fuse.Attr
	c.attr(node, &a)
	n.list = append(n.list, fuse.DirEntry{Name: name, Ino: node, Mode: a.Mode})
}

func (c *ceiling) attr(node uint64, out *fuse.Attr) {
	n := &c.nodes[node-1]
	*out = fuse.Attr{Ino: node, Mode: unix.S_IFDIR | 0o755, Nlink: 2}
	if n.kids == nil {
		*out = fuse.Attr{Ino: node, Mode: unix.S_IFREG | 0o444, Nlink: 1, Size: uint64(len(n.bytes)), Blksize: storeBlock}
	}
}

func (c *ceiling) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(valid)
	c.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (c *ceiling) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	node, found := c.nodes[in.NodeId-1].kids[name]
	if !found {
		return fuse.ENOENT
	}
	c.entry(node, out)
	return fuse.OK
}

func (c *ceiling) entry(node uint64, out *fuse.EntryOut) {
	out.NodeId = node
	out.SetEntryTimeout(valid)
	out.SetAttrTimeout(valid)
	c.attr(node, &out.Attr)
}

// GetXAttr answers as a mount does that has extended attributes, but none here.
func (c *ceiling) GetXAttr(<-chan struct{}, *fuse.InHeader, string, []byte) (uint32, fuse.Status) {
	return 0, fuse.ENOATTR
}

func (c *ceiling) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (c *ceiling) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return c.eachName(in, out.AddDirEntry)
}

func (c *ceiling) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return c.eachName(in, func(e fuse.DirEntry) bool {
		to := out.AddDirLookupEntry(e)
		if to != nil {
			c.entry(e.Ino, to)
		}
		return to != nil
	})
}

// eachName calls add for the names of a folder from in.Offset on, until there is no
// more room.
func (c *ceiling) eachName(in *fuse.ReadIn, add func(fuse.DirEntry) bool) fuse.Status {
	list := c.nodes[in.NodeId-1].list
	for i := in.Offset; i < uint64(len(list)); i++ {
		e := list[i]
		e.Off = i + 1
		if !add(e) {
			break
		}
	}
	return fuse.OK
}

func (c *ceiling) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

func (c *ceiling) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	b := c.nodes[in.NodeId-1].bytes
	from := min(in.Offset, uint64(len(b)))
	to := min(in.Offset+uint64(in.Size), uint64(len(b)))
	return fuse.ReadResultData(b[from:to]), fuse.OK
}
