package uffdmap

import (
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A coreSet gives threads that work side by side a core each. Linux likes to wake
// them on the core of who wakes them, where they take turns while another core is
// idle for milliseconds.
type coreSet struct {
	mu    sync.Mutex // guards taken
	taken unix.CPUSet
}

// stay keeps the caller on a core that nobody else has taken, its own if possible,
// until end is called. Without one it runs anywhere.
func (c *coreSet) stay() (end func()) {
	runtime.LockOSThread()
	var all unix.CPUSet
	if unix.SchedGetaffinity(0, &all) != nil || all.Count() < 2 {
		return runtime.UnlockOSThread
	}
	cpu := c.take(&all)
	if cpu < 0 {
		return runtime.UnlockOSThread
	}
	var one unix.CPUSet
	one.Set(cpu)
	unix.SchedSetaffinity(0, &one) // Where that fails it runs anywhere, too.
	return func() {
		unix.SchedSetaffinity(0, &all)
		c.give(cpu)
		runtime.UnlockOSThread()
	}
}

// take returns one of the cores in all, or -1 where all are taken.
func (c *coreSet) take(all *unix.CPUSet) int {
	var own uint32
	unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&own)), 0, 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range maxCores {
		cpu := (int(own) + i) % maxCores
		if all.IsSet(cpu) && !c.taken.IsSet(cpu) {
			c.taken.Set(cpu)
			return cpu
		}
	}
	return -1
}

func (c *coreSet) give(cpu int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken.Clear(cpu)
}

// maxCores is how many cores a unix.CPUSet tells apart.
const maxCores = int(unsafe.Sizeof(unix.CPUSet{})) * 8
