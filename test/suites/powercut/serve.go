package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// diskEnv names the folder of a disk to the process that serves it.
const diskEnv = "POWERCUT_DISK"

// The files of a record, and the length of an entry of the index, in bytes.
const (
	indexName = "index"
	dataName  = "data"
	indexLen  = 16
)

// A served disk is the one file of a FUSE mount.
type served struct {
	fs.Inode

	mu          sync.Mutex // guards what follows
	now         []byte
	index, data *os.File
}

// serveDisk serves the disk of folder, whose first bytes are in its file image, until SIGTERM.
func serveDisk(folder string) error {
	now, err := os.ReadFile(filepath.Join(folder, "image"))
	if err != nil {
		return err
	}
	d := &served{now: now}
	if d.index, err = os.Create(filepath.Join(folder, indexName)); err != nil {
		return err
	}
	if d.data, err = os.Create(filepath.Join(folder, dataName)); err != nil {
		return err
	}
	dir := filepath.Join(folder, "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root := &fs.Inode{}
	o := &fs.Options{OnAdd: func(ctx context.Context) {
		root.AddChild("disk", root.NewPersistentInode(ctx, d, fs.StableAttr{Mode: syscall.S_IFREG}), false)
	}}
	o.DirectMount = true
	server, err := fs.Mount(dir, root, o)
	if err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	fmt.Println("ready")
	<-end
	return patiently(server.Unmount) // The loop device lets go of it a little later.
}

func (d *served) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(len(d.now))
	return 0
}

// Open keeps the kernel from collecting writes.
func (d *served) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (d *served) Read(_ context.Context, _ fs.FileHandle, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fuse.ReadResultData(p[:copy(p, d.now[off:])]), 0
}

func (d *served) Write(_ context.Context, _ fs.FileHandle, p []byte, off int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := copy(d.now[off:], p)
	if _, err := d.data.Write(p); err != nil {
		return 0, syscall.EIO
	}
	return uint32(n), d.record(off, n)
}

func (d *served) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.record(0, 0)
}

// record appends to the index. It is called with mu held.
func (d *served) record(off int64, n int) syscall.Errno {
	var b [indexLen]byte
	binary.LittleEndian.PutUint64(b[:], uint64(off))
	binary.LittleEndian.PutUint64(b[8:], uint64(n))
	if _, err := d.index.Write(b[:]); err != nil {
		return syscall.EIO
	}
	return 0
}
