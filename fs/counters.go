package fs

import (
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// CountersAttr is the extended attribute of a mount's top folder by which the
// serving process tells its Counters, as JSON.
const CountersAttr = "user.lazyfs.counters"

// Counters say what a mount has done since it was made, and what it has open.
type Counters struct {
	PID         int           `json:"pid"`
	Uptime      time.Duration `json:"uptime_ns"`
	CPU         time.Duration `json:"cpu_ns"`
	MemoryBytes int64         `json:"memory_bytes"` // resident
	CacheBytes  int64         `json:"cache_bytes"`  // limit of the cache of frames

	Lookups      int64 `json:"lookups"`
	Stats        int64 `json:"stats"`
	Listings     int64 `json:"listings"` // answers, not folders
	Opens        int64 `json:"opens"`
	Reads        int64 `json:"reads"`
	ReadBytes    int64 `json:"read_bytes"`
	Writes       int64 `json:"writes"`
	WrittenBytes int64 `json:"written_bytes"`
	Syncs        int64 `json:"syncs"`
	IOErrors     int64 `json:"io_errors"` // reads and writes that failed with EIO
	NoSpace      int64 `json:"no_space"`  // and with ENOSPC

	Nodes   int `json:"nodes"`        // files and folders the kernel knows
	Handles int `json:"open_handles"` // of files and folders
	Files   int `json:"open_files"`   // backing files
	Waiting int `json:"waiting"`      // of these, nobody uses them: they wait for their sync
}

// counts are the Counters that move.
type counts struct {
	begin                                                                          time.Time
	lookups, stats, listings, opens, reads, readBytes, writes, writtenBytes, syncs atomic.Int64
	ioErrors, noSpace                                                              atomic.Int64
}

// failed counts a read or write that failed.
func (c *counts) failed(st fuse.Status) {
	switch st {
	case fuse.EIO:
		c.ioErrors.Add(1)
	case fuse.Status(unix.ENOSPC):
		c.noSpace.Add(1)
	}
}

// counters returns the present Counters.
func (m *mount) counters() Counters {
	c := &m.counts
	all := Counters{
		PID:          os.Getpid(),
		Uptime:       time.Since(c.begin),
		CPU:          cpuTime(),
		MemoryBytes:  resident(),
		CacheBytes:   m.opt.CacheBytes,
		Lookups:      c.lookups.Load(),
		Stats:        c.stats.Load(),
		Listings:     c.listings.Load(),
		Opens:        c.opens.Load(),
		Reads:        c.reads.Load(),
		ReadBytes:    c.readBytes.Load(),
		Writes:       c.writes.Load(),
		WrittenBytes: c.writtenBytes.Load(),
		Syncs:        c.syncs.Load(),
		IOErrors:     c.ioErrors.Load(),
		NoSpace:      c.noSpace.Load(),
	}
	m.nodes.mu.RLock()
	all.Nodes = len(m.nodes.byID)
	m.nodes.mu.RUnlock()
	m.handles.mu.RLock()
	all.Handles = len(m.handles.open)
	m.handles.mu.RUnlock()
	m.files.mu.Lock()
	all.Files, all.Waiting = len(m.files.open), m.files.waiting
	m.files.mu.Unlock()
	return all
}

// counting is a mount that counts what it is asked.
type counting struct{ *mount }

func (c counting) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	c.counts.lookups.Add(1)
	return c.mount.Lookup(cancel, h, name, out)
}

func (c counting) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.counts.stats.Add(1)
	return c.mount.GetAttr(cancel, in, out)
}

func (c counting) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.counts.listings.Add(1)
	return c.mount.ReadDir(cancel, in, out)
}

func (c counting) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.counts.listings.Add(1)
	return c.mount.ReadDirPlus(cancel, in, out)
}

func (c counting) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	c.counts.opens.Add(1)
	return c.mount.Open(cancel, in, out)
}

func (c counting) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	c.counts.opens.Add(1)
	return c.mount.Create(cancel, in, name, out)
}

func (c counting) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	c.counts.reads.Add(1)
	r, st := c.mount.Read(cancel, in, buf)
	if st.Ok() {
		c.counts.readBytes.Add(int64(r.Size()))
	} else {
		c.counts.failed(st)
	}
	return r, st
}

func (c counting) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	c.counts.writes.Add(1)
	n, st := c.mount.Write(cancel, in, data)
	if st.Ok() {
		c.counts.writtenBytes.Add(int64(n))
	} else {
		c.counts.failed(st)
	}
	return n, st
}

func (c counting) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	c.counts.syncs.Add(1)
	return c.mount.Fsync(cancel, in)
}

// GetXAttr answers for the counters itself: they are an attribute of the top folder
// only, in a mount of one store too.
func (c counting) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	if attr != CountersAttr || h.NodeId != c.root.id {
		return c.mount.GetXAttr(cancel, h, attr, dest)
	}
	text, err := json.Marshal(c.counters())
	if err != nil {
		return 0, fuse.EIO
	}
	size, err := fillXAttr(text, dest)
	return uint32(size), status(err)
}

// cpuTime is what this process has used of the CPUs.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is the memory of this process, in bytes (proc_pid_statm(5)).
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int64
	if n, _ := fmt.Sscan(string(b), &size, &pages); n != 2 {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
