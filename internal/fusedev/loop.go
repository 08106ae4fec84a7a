package fusedev

import (
	"encoding/binary"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	pageSize       = 4096
	headLen        = 16 // fuse_out_header in linux/fuse.h
	requestHeadLen = 80 // fuse_in_header and fuse_write_in

	// lookTime is how long a loop looks for the next request before it waits for it.
	// Who is woken on another core of a virtual machine may take as long to go on.
	lookTime = 30 * time.Microsecond

	// maxSkips bounds how often looking is left out after it did not pay.
	maxSkips = 63

	// crowdStart is how many requests in a row another one has to wait for before more
	// loops read, and crowdLasts for how many more they do.
	crowdStart = 5
	crowdLasts = 16
)

// Those of FUSE's opcodes that matter here (linux/fuse.h).
const (
	opForget      = 2
	opFsync       = 20
	opFsyncDir    = 30
	opBatchForget = 42
)

// A loop answers one request after the other. Its buffers are aligned so that the bytes
// of a file lie on whole pages, in READ's answers and in WRITE's requests.
type loop struct {
	c       *Conn
	in, out []byte
	iovIn   [1][]byte
	iovOut  [1][]byte
	wake    chan struct{}

	// turn is odd while the loop is at a request and is to read the next one. Who makes
	// it even decides: the loop reads, or others were told to.
	turn atomic.Uint64
	seen uint64 // turn when watch looked last

	behind int // requests in a row behind which another one waited
	skips  int // how often not to look
	last   int // what skips was when looking did not pay
}

// aligned returns n bytes of which those from head on begin with a page.
func aligned(n, head int) []byte {
	b := make([]byte, n+2*pageSize)
	first := pageSize - int(uintptr(unsafe.Pointer(&b[head]))%pageSize)
	return b[first : first+n]
}

func (l *loop) run() {
	c := l.c
	defer c.running.Done()
	for {
		n, err := c.read(l.in)
		if err != nil {
			c.end(err)
			return
		}
		request := l.in[:n]
		l.meet()
		leaves := lasts(request)
		if leaves {
			c.leave()
		} else {
			l.turn.Add(1)
			c.stir()
		}
		c.write(l.handle(request))
		stays := !leaves && l.done()
		switch {
		case stays && int(c.readers.Load()) <= c.enough():
			l.look()
			continue
		case stays:
			c.leave()
		}
		if !c.join(l) {
			return
		}
	}
}

// done ends a request after which the loop was to read. It returns false when others
// have been told to.
func (l *loop) done() bool {
	turn := l.turn.Load()
	return turn%2 == 1 && l.turn.CompareAndSwap(turn, turn+1)
}

// lasts says that a request waits for the disk, and nothing else should wait for it.
func lasts(request []byte) bool {
	op := opcode(request)
	return op == opFsync || op == opFsyncDir
}

func opcode(request []byte) uint32 {
	if len(request) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint32(request[4:])
}

// meet counts a request that was read, and has more loops read if it is one of a crowd.
func (l *loop) meet() {
	c := l.c
	if c.crowd.Load() > 0 {
		c.crowd.Add(-1)
	}
	if l.behind++; !c.pending() {
		l.behind = 0
	}
	if l.behind >= crowdStart {
		c.crowd.Store(crowdLasts)
		c.help()
	}
}

// look waits for the next request for a moment, if that has paid lately: the kernel then
// need not wake the loop. Whoever else wants the core gets it.
func (l *loop) look() {
	c := l.c
	if c.crowd.Load() > 0 {
		return
	}
	if l.skips > 0 {
		l.skips--
		return
	}
	for begin := time.Now(); time.Since(begin) < lookTime; {
		if c.pending() {
			l.last = 0
			return
		}
		syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
	l.skips = l.last
	l.last = min(2*l.last+1, maxSkips)
}

// pending says whether a request waits to be read, or nothing will come any more.
func (c *Conn) pending() bool {
	poll := unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN}
	var now unix.Timespec
	n, _, _ := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return int(n) == 1
}

// handle has the file system answer a request, and returns the answer, if there is one.
// It is good until the next.
func (l *loop) handle(request []byte) []byte {
	l.iovIn[0], l.iovOut[0] = request, l.out
	n, status := l.c.server.HandleRequest(l.iovIn[:], l.iovOut[:])
	if status == fuse.OK {
		return l.out[:n]
	}
	// Without an answer who asked would wait for ever.
	op := opcode(request)
	if len(request) < headLen || op == opForget || op == opBatchForget {
		return nil
	}
	copy(l.out[8:], request[8:16]) // The request's number.
	return failure(l.out, status)
}
