package uffdmap

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
)

// maxFill bounds what one call of fill brings in, in bytes. It is the work that
// is spread over all cores, and what a MemoryLimit must make room for at a time.
const maxFill = 8 << 20

// hold makes the frames from first on and below end resident and pins each. On
// an error it holds none.
func (v *Viewer) hold(first, end int64, pin uint64) error {
	for n := first; n < end; {
		switch v.take(n, pin) {
		case takenPinned:
			n++
		case takenBusy:
			v.await(n) // While nothing is claimed, so nobody waits for us.
		case takenClaimed:
			run, want := v.claimRun(n, end, pin)
			if err := v.fill(n, run, want, pin); err != nil {
				v.unpin(first, n, pin)
				return err
			}
			n += want
		}
	}
	return nil
}

// claimRun claims the absent frames behind n, which is claimed already, up to
// end and as far beyond as reading ahead goes. It returns how many they are with
// n, and how many of these lie below end.
func (v *Viewer) claimRun(n, end int64, pin uint64) (run, want int64) {
	most := max(int64(maxFill)>>v.frameShift, 1)
	if v.limit > 0 {
		most = max(min(most, v.limit>>v.frameShift/4), 1)
	}
	stop := end
	if pin != 0 { // A Prefetch knows what it wants.
		stop = v.ahead.stop(n, end, v.frameShift)
	}
	stop = min(stop, n+most, v.frameCount())
	run = 1
	for n+run < stop && v.claim(n+run) {
		run++
	}
	v.ahead.next.Store(n + run)
	return run, min(run, end-n)
}

func (v *Viewer) claim(n int64) bool {
	return v.frames[n].CompareAndSwap(0, frameBusy)
}

// fill brings in n claimed frames from first on, pins the first want of them,
// and settles all. When one of those can't be brought in it pins none and
// returns the error; the others don't matter.
func (v *Viewer) fill(first, n, want int64, pin uint64) error {
	v.count.faults.Add(1)
	err := v.reserve(n)
	if err != nil && n > want {
		v.abandon(first+want, n-want)
		n = want
		err = v.reserve(n)
	}
	if err != nil {
		v.abandon(first, n)
		return err
	}
	f := filling{v: v, first: first, n: n, want: want, pin: pin, chunk: v.scratch.size >> v.frameShift}
	if n <= f.chunk {
		_, err := f.fillChunk(first)
		return err
	}
	return f.spread()
}

// abandon settles n claimed frames from first on as absent.
func (v *Viewer) abandon(first, n int64) {
	for i := first; i < first+n; i++ {
		v.settle(i, 0)
	}
}

// A filling is one call of fill.
type filling struct {
	v       *Viewer
	first   int64 // frame
	n, want int64 // frames, and how many of them are pinned
	pin     uint64
	chunk   int64 // frames that fit into a scratch buffer
}

// spread fills chunk by chunk, in order, on all cores.
func (f filling) spread() error {
	chunks := (f.n + f.chunk - 1) / f.chunk
	done := make([]int64, chunks) // frames that a chunk filled and should have
	errs := make([]error, chunks)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(chunks, int64(runtime.GOMAXPROCS(0))) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < chunks; i = next.Add(1) - 1 {
				done[i], errs[i] = f.fillChunk(f.first + i*f.chunk)
			}
		})
	}
	wg.Wait()
	err := firstOf(errs)
	if err != nil {
		for i, n := range done {
			at := f.first + int64(i)*f.chunk
			f.v.unpin(at, at+n, f.pin)
		}
	}
	return err
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// fillChunk fills and settles the frames of one chunk. It returns how many it
// pinned: all that are wanted, or, with an error, none.
func (f filling) fillChunk(first int64) (pinned int64, err error) {
	v := f.v
	n := min(f.chunk, f.first+f.n-first)
	want := min(max(f.first+f.want-first, 0), n)
	got, err := v.load(first, n)
	v.count.ahead.Add(max(got-want, 0))
	if got >= want {
		err = nil
	} else {
		want = 0
	}
	for i := range n {
		switch {
		case i < want:
			v.settle(first+i, frameResident|frameUsed+f.pin)
		case i < got:
			v.settle(first+i, frameResident)
		default:
			v.settle(first+i, 0)
		}
	}
	v.giveBack(n - got)
	v.evictor.add(first, got)
	return want, err
}

// load brings in n claimed frames from first on, which fit into a scratch
// buffer, and returns how many it did before the error.
func (v *Viewer) load(first, n int64) (got int64, err error) {
	buf, err := v.scratch.get()
	if err != nil {
		return 0, err
	}
	defer v.scratch.put(buf)
	var zeros uint64 // a bit for each frame
	for ; got < n; got++ {
		var zero bool
		zero, err = v.src.ReadFrame(first+got, buf.b[got<<v.frameShift:(got+1)<<v.frameShift])
		if err != nil {
			break
		}
		if zero {
			zeros |= 1 << got
		}
	}
	if errors.Is(err, ErrDamaged) {
		v.count.damaged.Add(1)
	}
	if err := v.install(first, got, buf, zeros); err != nil {
		return 0, err
	}
	v.count.frames.Add(got)
	v.count.zeros.Add(int64(bits.OnesCount64(zeros)))
	return got, err
}

// install puts n frames from buf into their places from first on. Those with a
// bit in zeros are zero, whatever buf holds. On an error all stay absent.
func (v *Viewer) install(first, n int64, buf memory, zeros uint64) error {
	if v.tracked() {
		// Only a copy can install and protect in one step.
		for i := range n {
			if zeros>>i&1 != 0 {
				clear(buf.b[i<<v.frameShift : (i+1)<<v.frameShift])
			}
		}
		zeros = 0
	}
	for i := int64(0); i < n; {
		zero, end := zeros>>i&1, i+1
		for end < n && zeros>>end&1 == zero {
			end++
		}
		src := buf.addr + uintptr(i<<v.frameShift)
		if err := v.place(v.bytesOf(first+i, end-i), src, zero == 1); err != nil {
			v.drop(first, n)
			return err
		}
		i = end
	}
	return nil
}

// place installs the pages of dst, which are absent, from src or as zeros, and
// protected if writes are tracked.
func (v *Viewer) place(dst []byte, src uintptr, zero bool) error {
	flags := uffd.CopyDontWake // Nobody ever waits for a page.
	if v.tracked() {
		flags |= uffd.CopyWP
	}
	addr := uintptr(unsafe.Pointer(&dst[0]))
	for done := 0; done < len(dst); {
		at, left := uintptr(done), uintptr(len(dst)-done)
		var n int
		var err error
		if zero {
			n, err = v.uffd.Zero(addr+at, left, true)
		} else {
			n, err = v.uffd.Copy(addr+at, src+at, left, flags)
		}
		if done += n; err != nil && err != unix.EAGAIN {
			return fmt.Errorf("bring %#x bytes into memory: %w", left, err)
		}
	}
	return nil
}

// drop makes the pages of n frames from first on absent.
func (v *Viewer) drop(first, n int64) error {
	return unix.Madvise(v.bytesOf(first, n), unix.MADV_DONTNEED)
}
