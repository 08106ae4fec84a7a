package fusedev

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"runtime"
	"sync"
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

// A slowFS answers GETATTR at once and with the inode's number as size, and LOOKUP by
// calling lookup.
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

// However many requests wait for something, the next one is answered.
func TestBlockedRequestsHoldNobodyUp(t *testing.T) {
	free := make(chan struct{})
	k := connect(t, &slowFS{fuse.NewDefaultRawFileSystem(), func(string) { <-free }}).serve()
	const blocked = 50
	for i := range uint64(blocked) {
		k.lookup(1000+i, "x")
		k.getAttr(2000+i, 7)
		if code, _ := k.receive(2000 + i); code != 0 {
			t.Fatal(code)
		}
	}
	close(free)
	for range blocked {
		if k.message() == nil {
			t.Fatal("a request that waited is not answered")
		}
	}
	k.calm()
}

// Where requests have to wait in a row several loops answer them, and one is left when
// they do not.
func TestCrowd(t *testing.T) {
	met := make(chan struct{})
	count := 0
	var mu sync.Mutex
	k := connect(t, &slowFS{fuse.NewDefaultRawFileSystem(), func(string) {
		mu.Lock()
		count++
		first := count < crowdStart
		mu.Unlock()
		if first {
			return
		}
		select { // Two must be at a request at the same time.
		case met <- struct{}{}:
		case <-met:
		}
	}})
	k.c.watching.Store(true) // Nobody watches.
	const requests = crowdStart - 1 + 8
	for i := range uint64(requests) {
		k.lookup(1+i, "x")
	}
	k.serve()
	for range requests {
		if k.message() == nil {
			t.Fatal("one loop is left alone with many requests")
		}
	}
	k.calm()
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

// Where as many requests are under way as may be the next one is answered when one of
// them is.
func TestMostRequests(t *testing.T) {
	free := make(chan struct{})
	k := connect(t, &slowFS{fuse.NewDefaultRawFileSystem(), func(string) { <-free }})
	k.c.most = 3
	k.serve()
	for i := range uint64(3) {
		k.lookup(1+i, "x")
	}
	k.getAttr(9, 7)
	time.Sleep(20 * patience)
	free <- struct{}{}
	got := map[uint64]bool{}
	for range 2 {
		b := k.message()
		if b == nil {
			t.Fatal("nobody answers")
		}
		got[(*fuse.OutHeader)(unsafe.Pointer(&b[0])).Unique] = true
	}
	if !got[9] {
		t.Errorf("answers to %v, want one to 9, too", got)
	}
	close(free)
	k.message()
	k.message()
}

// Who waits for the kernel, which waits for another request, has that answered at once,
// also when nobody watches.
func TestNotifyPassesOn(t *testing.T) {
	var k *kernel
	other := make(chan struct{})
	k = connect(t, &slowFS{fuse.NewDefaultRawFileSystem(), func(name string) {
		if name == "other" {
			close(other)
			return
		}
		k.c.InodeNotify(1, 0, 0)
		k.lookup(3, "other")
		<-other
	}})
	k.c.watching.Store(true)
	k.serve()
	k.lookup(2, "x")
	got := map[uint64]bool{}
	for range 3 { // One is the notification, without a number.
		b := k.message()
		if b == nil {
			t.Fatalf("answers to %v alone", got)
		}
		got[(*fuse.OutHeader)(unsafe.Pointer(&b[0])).Unique] = true
	}
	if !got[2] || !got[3] {
		t.Errorf("answers to %v, want 2 and 3", got)
	}
}

// Each request of a storm is answered once, whether requests are quick, slow or wait for
// each other, and nothing is left in the end.
func TestStorm(t *testing.T) {
	before := runtime.NumGoroutine()
	k := connect(t, &slowFS{fuse.NewDefaultRawFileSystem(), func(name string) {
		var us int
		fmt.Sscan(name, &us)
		time.Sleep(time.Duration(us) * time.Microsecond)
	}}).serve()
	const senders, each = 8, 1500
	var all sync.WaitGroup
	for s := range uint64(senders) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(s, 1))
			for i := range uint64(each) {
				unique := 100_000 + s*each + i
				switch r.IntN(10) {
				case 0:
					k.lookup(unique, fmt.Sprint(r.IntN(3000)))
				case 1:
					time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond)
					fallthrough
				default:
					k.getAttr(unique, unique)
				}
			}
		})
	}
	answered := map[uint64]bool{}
	for range senders * each {
		b := k.message()
		if b == nil {
			t.Fatalf("%d answers, want %d", len(answered), senders*each)
		}
		h := (*fuse.OutHeader)(unsafe.Pointer(&b[0]))
		if answered[h.Unique] || h.Status != 0 {
			t.Fatalf("request %d: status %d, answered before: %v", h.Unique, h.Status, answered[h.Unique])
		}
		answered[h.Unique] = true
		if size := unsafe.Sizeof(fuse.AttrOut{}); len(b) == headLen+int(size) {
			if got := (*fuse.AttrOut)(unsafe.Pointer(&b[headLen])).Size; got != h.Unique {
				t.Fatalf("request %d has the answer of %d", h.Unique, got)
			}
		}
	}
	all.Wait()
	k.calm()
	k.end()
	for try := 0; runtime.NumGoroutine() > before; try++ {
		if try == 2000 {
			t.Fatalf("%d goroutines are left of %d", runtime.NumGoroutine(), before)
		}
		time.Sleep(time.Millisecond)
	}
}

// A request whose answer would be too long, or that nobody knows, is answered all the same.
func TestAnswersWhatItCannotDo(t *testing.T) {
	k := connect(t, &slowFS{RawFileSystem: fuse.NewDefaultRawFileSystem()}).serve()
	in := fuse.GetXAttrIn{Size: 1 << 20}
	k.send(opGetXAttr, 5, 1, append(bytes.Clone(bytesOf(&in)[unsafe.Sizeof(in.InHeader):]), "name\x00"...))
	if code, _ := k.receive(5); code != unix.EIO {
		t.Errorf("an answer of 1 MiB: %v, want %v", code, unix.EIO)
	}
	k.send(4711, 6, 1, nil)
	if code, _ := k.receive(6); code != unix.ENOSYS {
		t.Errorf("an unknown request: %v, want %v", code, unix.ENOSYS)
	}
	k.log.Reset() // go-fuse tells of both.
}

// A kernel that speaks another protocol is refused, and the device is closed.
func TestGreetFails(t *testing.T) {
	for name, first := range map[string][]byte{
		"another protocol": bytesOf(&fuse.InitIn{InHeader: fuse.InHeader{Opcode: opInit, Unique: 1, Length: 104}, Major: 6}),
		"no request":       nil,
	} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			unix.Shutdown(pair[0], unix.SHUT_WR)
		} else if _, err := unix.Write(pair[0], first); err != nil {
			t.Fatal(err)
		}
		_, err = New(pair[1], fuse.NewDefaultRawFileSystem(), &fuse.MountOptions{MaxWrite: 64 << 10})
		var errno unix.Errno
		if !errors.As(err, &errno) {
			t.Errorf("%s: New gives %v, want an errno", name, err)
		}
		if _, err := unix.FcntlInt(uintptr(pair[1]), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("%s: the device stays open", name)
		}
		unix.Close(pair[0])
	}
}

// Messages are laid out as go-fuse's, and after the end there is nobody to tell.
func TestNotify(t *testing.T) {
	k := connect(t, fuse.NewDefaultRawFileSystem()).serve()
	if err := k.c.InodeNotify(5, -1, 7); err != nil {
		t.Fatal(err)
	}
	inval := fuse.NotifyInvalInodeOut{Ino: 5, Off: -1, Length: 7}
	sameMessage(t, k.message(), fuse.OutHeader{Length: 40, Status: -int32(fuse.NOTIFY_INVAL_INODE)}, bytesOf(&inval))
	if err := k.c.InodeNotifyStoreCache(5, 8, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	stored := fuse.NotifyStoreOut{Nodeid: 5, Offset: 8, Size: 5}
	sameMessage(t, k.message(), fuse.OutHeader{Length: 45, Status: -int32(fuse.NOTIFY_STORE_CACHE)},
		append(bytes.Clone(bytesOf(&stored)), "hello"...))
	k.end()
	if err := k.c.InodeNotify(5, 0, 0); err != unix.ENODEV {
		t.Errorf("after the end: %v, want %v", err, unix.ENODEV)
	}
}

func sameMessage(t *testing.T, got []byte, h fuse.OutHeader, body []byte) {
	t.Helper()
	if want := append(bytes.Clone(bytesOf(&h)), body...); !bytes.Equal(got, want) {
		t.Errorf("message is\n% x, want\n% x", got, want)
	}
}
