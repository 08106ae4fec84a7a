package fusedev

import (
	"bytes"
	"log"
	"testing"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	opLookup   = 1
	opGetAttr  = 3
	opGetXAttr = 22
	opInit     = 26
)

// A kernel is the other side of a Conn's device: a socket that keeps messages apart as
// the device does.
type kernel struct {
	t    *testing.T
	fd   int
	c    *Conn
	log  *bytes.Buffer
	done chan struct{} // closed when Serve has returned
}

// A slowFS answers GETATTR at once and with the inode's number as size, and LOOKUP,
// FSYNC and FSYNCDIR after lookup.
type slowFS struct {
	fuse.RawFileSystem
	lookup func(name string)
}

func (f *slowFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Size = in.NodeId
	return fuse.OK
}

func (f *slowFS) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	f.lookup(name)
	out.NodeId = in.NodeId
	return fuse.OK
}

func (f *slowFS) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status {
	f.lookup("")
	return fuse.OK
}

func (f *slowFS) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status { return f.Fsync(nil, in) }

// connect makes a Conn that serves fs for a kernel.
func connect(t *testing.T, fs fuse.RawFileSystem) *kernel {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{t: t, fd: pair[0], log: &bytes.Buffer{}, done: make(chan struct{})}
	k.send(opInit, 1, 0, bytesOf(&fuse.InitIn{Major: 7, Minor: 40})[unsafe.Sizeof(fuse.InHeader{}):])
	k.c, err = New(pair[1], fs, &fuse.MountOptions{MaxWrite: 64 << 10, Logger: log.New(k.log, "", 0)})
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := k.receive(1); code != 0 {
		t.Fatalf("INIT is answered with %v", code)
	}
	t.Cleanup(k.end)
	return k
}

func (k *kernel) serve() *kernel {
	go func() {
		k.c.Serve()
		close(k.done)
	}()
	return k
}

// end takes the mount away, and waits for Serve.
func (k *kernel) end() {
	if k.fd < 0 {
		return
	}
	unix.Close(k.fd)
	k.fd = -1
	select {
	case <-k.done:
	case <-time.After(20 * time.Second):
		k.t.Error("Serve does not return")
	}
	if k.log.Len() > 0 {
		k.t.Errorf("it logs %q", k.log)
	}
}

func bytesOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }

// send sends a request about an inode.
func (k *kernel) send(op uint32, unique, inode uint64, rest []byte) {
	k.t.Helper()
	h := fuse.InHeader{Opcode: op, Unique: unique, NodeId: inode}
	h.Length = uint32(unsafe.Sizeof(h)) + uint32(len(rest))
	if _, err := unix.Write(k.fd, append(bytes.Clone(bytesOf(&h)), rest...)); err != nil {
		k.t.Error(err)
	}
}

func (k *kernel) lookup(unique uint64, name string) {
	k.t.Helper()
	k.send(opLookup, unique, 1, append([]byte(name), 0))
}

func (k *kernel) getAttr(unique, inode uint64) {
	k.t.Helper()
	var in fuse.GetAttrIn
	k.send(opGetAttr, unique, inode, bytesOf(&in)[unsafe.Sizeof(in.InHeader):])
}

// message receives one message, nil when none comes for a long time.
func (k *kernel) message() []byte {
	k.t.Helper()
	p := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 20_000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			return nil
		}
		b := make([]byte, 128<<10)
		n, err = unix.Read(k.fd, b)
		if err != nil {
			k.t.Fatal(err)
		}
		return b[:n]
	}
}

// receive receives the answer to a request: its error, and what is behind the header.
func (k *kernel) receive(unique uint64) (unix.Errno, []byte) {
	k.t.Helper()
	b := k.message()
	if b == nil {
		k.t.Fatalf("nobody answers request %d", unique)
	}
	h := (*fuse.OutHeader)(unsafe.Pointer(&b[0]))
	if h.Unique != unique || int(h.Length) != len(b) {
		k.t.Fatalf("answer to request %d of %d bytes, has %d; want one to %d", h.Unique, h.Length, len(b), unique)
	}
	return unix.Errno(-h.Status), b[headLen:]
}

// calm checks that after some requests, one after the other, one loop reads, and few are
// kept for others.
func (k *kernel) calm() {
	k.t.Helper()
	var readers, loops, idle int
	for try := range uint64(2000) {
		k.getAttr(10_000+try, 1)
		k.receive(10_000 + try)
		k.c.mu.Lock()
		readers, loops, idle = int(k.c.readers.Load()), len(k.c.loops), len(k.c.idle)
		k.c.mu.Unlock()
		if readers == 1 && loops == 1+idle && idle <= k.c.crew {
			return
		}
	}
	k.t.Errorf("%d loops of %d read and %d are idle, want 1 and at most %d", readers, loops, idle, k.c.crew)
}
