package test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"lazyfs/store"
	"lazyfs/uffdmap"
)

// An interruptedNode is a file or folder of a file system of which each file can be opened
// at the second attempt: the first is interrupted, as by a signal.
type interruptedNode struct {
	*fs.LoopbackNode
	interrupted atomic.Bool
}

func (n *interruptedNode) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &interruptedNode{LoopbackNode: child.(*fs.LoopbackNode)}
}

func (n *interruptedNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if !n.interrupted.Swap(true) {
		return nil, 0, syscall.EINTR
	}
	return n.LoopbackNode.Open(ctx, flags)
}

// A store can be mapped from a file system that lets signals interrupt an open(2): Go
// sends them to its own threads.
func TestMapInterrupted(t *testing.T) {
	folder, mnt := t.TempDir(), t.TempDir()
	s, err := store.Create(filepath.Join(folder, "x.lazy"), store.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteAt([]byte("lazy"), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	root := &interruptedNode{LoopbackNode: &fs.LoopbackNode{RootData: &fs.LoopbackRoot{Path: folder}}}
	server, err := fs.Mount(mnt, root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMount: os.Geteuid() == 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Unmount()
	m, err := uffdmap.Map(filepath.Join(mnt, "x.lazy"), uffdmap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(m.Bytes()); got != "lazy" {
		t.Errorf("mapping holds %q", got)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
