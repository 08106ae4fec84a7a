package fs

import (
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A ceiling is the least that a mount can do: it shows one file, whose bytes it has
// in memory. Whatever a mount is slower than that is its own doing.
type ceiling struct {
	fuse.RawFileSystem
	bytes []byte
	name  string
}

// MountCeiling shows the bytes of the file source at dir/bench, by the library and
// with the mount options of a mount.
func MountCeiling(source, dir string, o Options) (*Server, error) {
	o.setDefaults()
	f, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	c := &ceiling{RawFileSystem: fuse.NewDefaultRawFileSystem(), name: "bench"}
	c.bytes, err = unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	m := &mount{opt: o, log: o.Log, asRoot: os.Geteuid() == 0}
	m.files.init()
	return m.start(c, source, dir)
}

func (c *ceiling) attr(node uint64, out *fuse.Attr) {
	*out = fuse.Attr{Ino: node, Mode: unix.S_IFDIR | 0o755, Nlink: 2}
	if node != 1 {
		*out = fuse.Attr{Ino: node, Mode: unix.S_IFREG | 0o444, Nlink: 1, Size: uint64(len(c.bytes)), Blksize: storeBlock}
	}
}

func (c *ceiling) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(valid)
	c.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (c *ceiling) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if name != c.name {
		return fuse.ENOENT
	}
	out.NodeId = 2
	out.SetEntryTimeout(valid)
	out.SetAttrTimeout(valid)
	c.attr(2, &out.Attr)
	return fuse.OK
}

func (c *ceiling) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

func (c *ceiling) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	from := min(in.Offset, uint64(len(c.bytes)))
	to := min(in.Offset+uint64(in.Size), uint64(len(c.bytes)))
	return fuse.ReadResultData(c.bytes[from:to]), fuse.OK
}
