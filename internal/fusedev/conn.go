// Package fusedev answers the requests of a FUSE mount: it reads them from the kernel's
// device, has go-fuse call the file system, and writes the answers.
//
// go-fuse's own server keeps several threads waiting for requests, and the kernel wakes
// one of them for each, most often on another core. Where that takes long, on virtual
// machines above all, it takes longer than most requests. Here one thread answers what
// it reads itself while nobody else reads, and looks for the next request for a moment
// before it waits. Others help where requests have to wait, and take over from one that
// takes long.
package fusedev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// maxBuffers bounds the memory of all requests under way, in bytes, as long as they
	// do not all wait.
	maxBuffers = 64 << 20

	// relief is how long nobody reads before there are more loops than that allows. What
	// the others are at may wait for what the kernel asks for next.
	relief = 10 * patience
)

// A Conn is the connection of one mount to the kernel. Its methods may be called by any
// number of goroutines.
type Conn struct {
	fd     int
	server *fuse.ProtocolServer
	log    *log.Logger
	buffer int // bytes of the longest request, and of the longest answer
	crew   int // how many read at the same time where requests have to wait
	most   int // loops there may be, unless nobody reads for long

	crowd    atomic.Int64 // for so many more requests several loops read
	readers  atomic.Int64 // loops that read, or will after the request that they are at; changed with mu held
	watching atomic.Bool  // a goroutine is in watch

	open   sync.RWMutex // held by who uses fd and is no loop
	closed bool         // fd is; guarded by open

	mu      sync.Mutex // guards what follows
	ended   bool       // the kernel has no more requests
	loops   []*loop    // another slice with each change
	idle    []*loop    // those that wait until they are needed
	running sync.WaitGroup
}

// New greets the kernel through the mount's device fd, which belongs to the Conn from
// then on, also when New fails. Requests are answered by fs from Serve on.
//
// Of o it takes what concerns the connection, not how to mount. MaxWrite bounds reads
// as well: the mount has it as max_read.
func New(fd int, fs fuse.RawFileSystem, o *fuse.MountOptions) (*Conn, error) {
	c := &Conn{
		fd:     fd,
		server: fuse.NewProtocolServer(fs, o),
		log:    o.Logger,
		buffer: o.MaxWrite + pageSize,
		crew:   min(max(2, runtime.GOMAXPROCS(0)), 15) + 1, // one more, for those that wait for the disk
	}
	c.most = maxBuffers / (2 * c.buffer)
	l := c.add()
	if err := l.greet(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("greet the kernel: %w", err)
	}
	return c, nil
}

// greet answers the first request, which says what the kernel can do.
func (l *loop) greet() error {
	n, err := l.c.read(l.in)
	if err != nil {
		return err
	}
	answer := l.handle(l.in[:n])
	if len(answer) >= headLen {
		if code := int32(binary.NativeEndian.Uint32(answer[4:])); code != 0 {
			err = unix.Errno(-code)
		}
	}
	l.c.write(answer)
	return err
}

// Serve answers requests until the mount is gone and the last of them is answered.
// It is called once.
func (c *Conn) Serve() {
	c.readers.Store(1)
	c.running.Add(1)
	c.loops[0].run()
	c.running.Wait()
	c.open.Lock()
	defer c.open.Unlock()
	c.closed = true
	unix.Close(c.fd)
}

// add makes a loop. The caller holds mu, or is alone.
func (c *Conn) add() *loop {
	l := &loop{c: c, in: aligned(c.buffer, requestHeadLen), out: aligned(c.buffer, headLen), wake: make(chan struct{}, 1)}
	c.loops = append(slices.Clip(c.loops), l)
	return l
}

// read reads a request. ENODEV says that the mount is gone.
func (c *Conn) read(b []byte) (int, error) {
	for {
		n, err := unix.Read(c.fd, b)
		if n == 0 && err == nil {
			err = unix.ENODEV
		}
		// ENOENT: who asked was interrupted before the request was read.
		if err != unix.EINTR && err != unix.ENOENT && err != unix.EAGAIN {
			return n, err
		}
	}
}

// write writes an answer, if there is one.
func (c *Conn) write(b []byte) {
	if len(b) == 0 {
		return
	}
	_, err := unix.Write(c.fd, b)
	// ENOENT: who asked does not wait any more. ENODEV: nobody does.
	if err != nil && err != unix.ENOENT && err != unix.ENODEV {
		c.log.Printf("answer to the kernel, %d bytes: %v", len(b), err)
		// It takes no errors from 512 on, which a system call may return all the same
		// (include/linux/errno.h). Without an answer who asked would wait for ever.
		unix.Write(c.fd, failure(b, fuse.EIO))
	}
}

// failure makes b, in which the request's number is in its place, the answer that it failed.
func failure(b []byte, status fuse.Status) []byte {
	binary.NativeEndian.PutUint32(b, headLen)
	binary.NativeEndian.PutUint32(b[4:], uint32(-int32(status)))
	return b[:headLen]
}

// leave is called by a loop that was to read next and will not for now. If nobody else
// reads another loop does.
func (c *Conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers.Add(-1) == 0 {
		c.call()
	}
}

// help has one more loop read where as many as should do not.
func (c *Conn) help() {
	if int(c.readers.Load()) >= c.crew {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(c.readers.Load()) < c.crew {
		c.call()
	}
}

// call has one more loop read. Where there are too many, those that are read when they
// have answered, or another one does after a while. The caller holds mu.
func (c *Conn) call() {
	if c.ended {
		return
	}
	if last := len(c.idle) - 1; last >= 0 {
		l := c.idle[last]
		c.idle = c.idle[:last]
		c.readers.Add(1)
		l.wake <- struct{}{} // It has room for one.
		return
	}
	if len(c.loops) < c.most {
		c.start()
	} else if c.readers.Load() == 0 {
		time.AfterFunc(relief, c.relieve)
	}
}

// relieve has one more loop read if nobody does.
func (c *Conn) relieve() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended && c.readers.Load() == 0 {
		c.start()
	}
}

// start makes a loop that reads. The caller holds mu.
func (c *Conn) start() {
	c.readers.Add(1)
	c.running.Add(1)
	go c.add().run()
}

// enough is how many loops should read.
func (c *Conn) enough() int {
	if c.crowd.Load() > 0 {
		return c.crew
	}
	return 1
}

// join makes l one of those that read, at once where they are too few, or when it is
// needed. It returns false when l is not, or there is nothing more to do.
func (c *Conn) join(l *loop) bool {
	c.mu.Lock()
	switch {
	case c.ended:
		c.mu.Unlock()
		return false
	case int(c.readers.Load()) < c.enough():
		c.readers.Add(1)
		c.mu.Unlock()
		return true
	case len(c.idle) >= c.crew:
		c.loops = slices.DeleteFunc(slices.Clone(c.loops), func(other *loop) bool { return other == l })
		c.mu.Unlock()
		return false
	}
	c.idle = append(c.idle, l)
	c.mu.Unlock()
	_, needed := <-l.wake
	return needed
}

// end is called by a loop that can't read because of err.
func (c *Conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	for _, l := range c.idle {
		close(l.wake)
	}
	c.idle = nil
	if !errors.Is(err, unix.ENODEV) {
		c.log.Printf("read requests of the kernel: %v", err)
	}
}
