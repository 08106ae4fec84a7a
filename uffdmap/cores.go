package uffdmap

import (
	"cmp"
	"runtime"
	"sync"
	"sync/atomic"
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

// onAllCores calls do for each item, in order, on all cores, until one fails.
func onAllCores[T any](items []T, do func(item T) error) error {
	errs := make([]error, len(items))
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(len(items), runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(items)); i = next.Add(1) - 1 {
				if errs[i] = do(items[i]); errs[i] != nil {
					next.Store(int64(len(items)))
				}
			}
		})
	}
	all.Wait()
	return cmp.Or(errs...)
}

// inParallel is onAllCores in a pager, whose GOMAXPROCS is not the number of cores, and
// which gives each worker one of them. do gets memory for one frame, or for maxRun bytes of
// frames.
func inParallel[T any](items []T, do func(buf []byte, item T) error) error {
	var next atomic.Int64
	var once sync.Once
	var first error
	fail := func(err error) {
		once.Do(func() { first = err })
		next.Store(int64(len(items)))
	}
	var all sync.WaitGroup
	var cores coreSet
	for range min(runtime.NumCPU(), len(items)) {
		all.Go(func() {
			defer cores.stay()()
			buf, err := newScratch()
			if err != nil {
				fail(err)
				return
			}
			defer freeScratch(buf)
			for i := next.Add(1) - 1; i < int64(len(items)); i = next.Add(1) - 1 {
				if err := do(buf, items[i]); err != nil {
					fail(err)
					return
				}
			}
		})
	}
	all.Wait()
	return first
}
