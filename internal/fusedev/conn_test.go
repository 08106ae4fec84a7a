package fusedev

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

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

// A request that comes when nobody watches from then on is watched all the same.
func TestWatchEndsBesideRequest(t *testing.T) {
	free, begun := make(chan struct{}), make(chan struct{})
	k := connect(t, &slowFS{fuse.NewDefaultRawFileSystem(), func(string) { close(begun); <-free }})
	k.c.watching.Store(true) // Somebody watches still, who has seen no request for long.
	k.serve()
	k.lookup(2, "x")
	<-begun
	k.c.unwatch()
	k.getAttr(3, 7)
	if code, _ := k.receive(3); code != 0 {
		t.Error(code)
	}
	close(free)
	if code, _ := k.receive(2); code != 0 {
		t.Error(code)
	}
}

// Nobody waits for an fsync, of a file or of a folder, also when nobody watches.
func TestFsyncHoldsNobodyUp(t *testing.T) {
	for _, op := range []uint32{opFsync, opFsyncDir} {
		free := make(chan struct{})
		k := connect(t, &slowFS{fuse.NewDefaultRawFileSystem(), func(string) { <-free }})
		k.c.watching.Store(true)
		k.serve()
		var in fuse.FsyncIn
		k.send(op, 2, 1, bytesOf(&in)[unsafe.Sizeof(in.InHeader):])
		k.getAttr(3, 7)
		if code, _ := k.receive(3); code != 0 {
			t.Error(code)
		}
		close(free)
		if code, _ := k.receive(2); code != 0 {
			t.Error(code)
		}
	}
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

// Where more requests wait than should be under way, maybe for later ones, the next one is
// answered all the same.
func TestMostRequests(t *testing.T) {
	free := make(chan struct{})
	k := connect(t, &slowFS{fuse.NewDefaultRawFileSystem(), func(string) { <-free }})
	k.c.most = 3
	k.serve()
	const blocked = 10
	for i := range uint64(blocked) {
		k.lookup(1000+i, "x")
	}
	k.getAttr(9, 7)
	if code, _ := k.receive(9); code != 0 {
		t.Error(code)
	}
	close(free)
	for range blocked {
		if k.message() == nil {
			t.Fatal("a request that waited is not answered")
		}
	}
	k.calm()
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

// What has no answer has none either where it can't be understood: the kernel takes one for
// that of a request that it knows.
func TestForgetHasNoAnswer(t *testing.T) {
	k := connect(t, &slowFS{RawFileSystem: fuse.NewDefaultRawFileSystem()})
	k.c.watching.Store(true) // Nobody watches: one loop answers all in this order.
	k.serve()
	k.send(opForget, 5, 1, nil)
	k.send(opBatchForget, 6, 1, nil)
	k.getAttr(7, 1)
	k.receive(7)  // It is the first.
	k.log.Reset() // go-fuse tells of the others.
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
	unix.Shutdown(k.fd, unix.SHUT_RD)
	if err := k.c.InodeNotify(5, 0, 0); !errors.Is(err, unix.EPIPE) {
		t.Errorf("where nobody reads it: %v, want %v", err, unix.EPIPE)
	}
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

// Who is interrupted while he reads a request reads on.
func TestReadGoesOn(t *testing.T) {
	k := connect(t, fuse.NewDefaultRawFileSystem())
	// With a time limit no read of a socket is begun again by the kernel (signal(7)).
	for _, limit := range []unix.Timeval{{Usec: 1000}, {Sec: 3600}} {
		if err := unix.SetsockoptTimeval(k.c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			t.Fatal(err)
		}
		thread, read := make(chan int), make(chan error)
		go func() {
			runtime.LockOSThread()
			thread <- unix.Gettid()
			_, err := k.c.read(make([]byte, k.c.buffer))
			read <- err
		}()
		id := <-thread
		for range 10 {
			time.Sleep(5 * time.Millisecond)
			if err := unix.Tgkill(unix.Getpid(), id, unix.SIGURG); err != nil {
				t.Fatal(err)
			}
		}
		k.getAttr(2, 1)
		if err := <-read; err != nil {
			t.Errorf("with a limit of %d s: %v", limit.Sec, err)
		}
	}
	k.serve()
}

// The device is not closed while somebody is about to write to it.
func TestCloseWaitsForNotify(t *testing.T) {
	k := connect(t, fuse.NewDefaultRawFileSystem()).serve()
	k.c.open.RLock()
	unix.Close(k.fd)
	for ended := false; !ended; {
		k.c.mu.Lock()
		ended = k.c.ended
		k.c.mu.Unlock()
	}
	select {
	case <-k.done:
		t.Error("the device is closed beside a notification")
	case <-time.After(100 * time.Millisecond):
	}
	k.c.open.RUnlock()
	k.fd = -1
	<-k.done
}

// Nobody writes to the device while it is being closed.
func TestNotifyWaitsForClose(t *testing.T) {
	k := connect(t, fuse.NewDefaultRawFileSystem()).serve()
	k.c.open.Lock()
	told := make(chan error, 1)
	go func() { told <- k.c.InodeNotify(5, 0, 0) }()
	select {
	case <-told:
		t.Error("it is told beside the close")
		told <- nil
	case <-time.After(100 * time.Millisecond):
	}
	k.c.closed = true
	k.c.open.Unlock()
	if err := <-told; err != unix.ENODEV {
		t.Errorf("after the close: %v, want %v", err, unix.ENODEV)
	}
}
