package fs

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lazyfs/internal/fusedev"
	"lazyfs/store"
)

const (
	// maxRequest is the largest READ and WRITE, in bytes. The kernel would take
	// 1 MiB, but several smaller requests are served on several cores, and need
	// less memory.
	maxRequest = 256 << 10
	// maxBackground bounds the asynchronous requests under way: read-ahead and
	// writes of mapped pages.
	maxBackground = 64
)

// mount is the file system that go-fuse drives.
type mount struct {
	fuse.RawFileSystem // answers ENOSYS to all that is not here

	opt           Options
	log           *log.Logger
	cache         *store.Cache
	nodes         *nodes
	root          *node
	single        string // name of the one file shown; empty: a folder is mirrored
	singleBacking string // its backing name
	asRoot        bool   // may give files away
	files         files
	probes        probes
	handles       handles
	counts        counts
	logged        logged
	conn          *fusedev.Conn

	// ending is set when what is open is about to be closed. The kernel, which asks for
	// attributes before it writes to its pages, is to write no more.
	ending atomic.Bool
}

// A Server is a mount that is being served.
type Server struct {
	m      *mount
	dir    string
	device string // device number of the mount

	unmounting sync.Mutex    // held by Unmount
	ended      chan struct{} // closed when no more requests are served
	end        sync.Once     // closes ended
	stays      error         // the mount could not be taken away; set before ended is closed
	stopSync   chan struct{}
	done       chan struct{} // closed when everything is synced and closed
	err        error         // of that; read after done
}

// Mount shows source, a store or a folder, at the folder dir, and returns when the
// mount is ready. It is served by this process until it is unmounted; then call
// Wait before the process exits.
//
// As root it mounts by itself, otherwise through fusermount3.
func Mount(source, dir string, o Options) (*Server, error) {
	o.setDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	m, err := newMount(source, o)
	if err != nil {
		return nil, err
	}
	s, err := m.serve(source, dir)
	if err != nil {
		m.nodes.folders.forget(m.root)
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return s, nil
}

func newMount(source string, o Options) (*mount, error) {
	m := &mount{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		opt:           o,
		log:           o.Log,
		cache:         store.NewCache(o.CacheBytes),
		nodes:         newNodes(),
		asRoot:        os.Geteuid() == 0,
	}
	m.files.init()
	m.probes.ahead = max(1, min(lookedAt, descriptorLimit()/32))
	m.counts.begin = time.Now()
	folder := source
	fi, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		if m.single, m.singleBacking, folder, err = singleNames(source); err != nil {
			return nil, err
		}
	}
	fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: folder, Err: err}
	}
	if m.root, err = m.nodes.addRoot(fd); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "stat", Path: folder, Err: err}
	}
	return m, nil
}

// singleNames finds the name under which the store at path appears, its backing
// name and its folder. Symbolic links are followed first.
func singleNames(path string) (name, backing, folder string, err error) {
	// Opening a named pipe without O_NONBLOCK would wait for its writer.
	f, err := os.OpenFile(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", "", "", err
	}
	defer f.Close()
	if _, err := store.Probe(f); err != nil {
		return "", "", "", err
	}
	path, err = filepath.EvalSymlinks(path)
	if err != nil {
		return "", "", "", err
	}
	backing = filepath.Base(path)
	name, ok := stripped(backing)
	if !ok {
		name = backing
	}
	return name, backing, filepath.Dir(path), nil
}

// serve mounts m at dir and starts to answer the kernel.
func (m *mount) serve(source, dir string) (*Server, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	if fi, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !fi.IsDir() {
		return nil, unix.ENOTDIR
	}
	if err := m.checkPlace(dir); err != nil {
		return nil, err
	}
	if abs, err := filepath.Abs(source); err == nil {
		source = abs
	}
	fd, err := m.attach(source, dir)
	if err != nil {
		return nil, err
	}
	device, err := deviceAt(dir)
	if err != nil {
		unix.Close(fd)
		return nil, errors.Join(err, m.unmount(dir, true))
	}
	if m.conn, err = fusedev.New(fd, counting{m}, m.options()); err != nil {
		return nil, errors.Join(err, m.unmount(dir, true))
	}
	s := m.start(m.conn.Serve, dir, device)
	if m.asRoot {
		if err := widenPages(device); err != nil {
			// The mount is right without it, where /sys is read-only say.
			m.log.Printf("%s: the kernel reads ahead, and keeps, as little as by default: %v", dir, err)
		}
	}
	return s, nil
}

// start begins to serve the mount at dir, with that device number: serve answers the
// kernel until the mount is gone.
func (m *mount) start(serve func(), dir, device string) *Server {
	s := &Server{
		m:        m,
		dir:      dir,
		device:   device,
		ended:    make(chan struct{}),
		stopSync: make(chan struct{}),
		done:     make(chan struct{}),
	}
	go func() {
		serve()
		s.end.Do(func() { close(s.ended) })
		<-s.done
		m.letGo()
	}()
	go m.files.run(m.opt.SyncAfter, s.stopSync)
	go s.finish()
	return s
}

// options are what go-fuse is told, and through it the kernel.
func (m *mount) options() *fuse.MountOptions {
	o := &fuse.MountOptions{
		MaxWrite:                 maxRequest,
		MaxBackground:            maxBackground,
		ExplicitDataCacheControl: true,
		EnableAcl:                true,
		DisableSplice:            true,
		ExtraCapabilities:        fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_DONT_MASK | fuse.CAP_SETXATTR_EXT,
		Logger:                   m.log,
	}
	if m.opt.Writable {
		o.ExtraCapabilities |= fuse.CAP_WRITEBACK_CACHE
	}
	return o
}

// checkPlace refuses a mount inside of the folder that it mirrors: the mount would
// show itself, and wait for itself.
func (m *mount) checkPlace(dir string) error {
	if m.single != "" {
		return nil
	}
	for at := filepath.Dir(dir); ; at = filepath.Dir(at) {
		var st unix.Stat_t
		if unix.Stat(at, &st) == nil && inodeOf(&st) == m.root.inode {
			return errors.New("the folder to mount on lies inside of the folder to show")
		}
		if at == "/" {
			return nil
		}
	}
}
