package uffdmap

import (
	"cmp"
	"errors"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// maxFill bounds what one call of fill brings in, in bytes. It is the work that
// is spread over all cores, and what a MemoryLimit must make room for at a time.
const maxFill = 8 << 20

// hold makes the frames from first on and below end resident and pins each. On
// an error it holds none.
func (v *Viewer) hold(first, end int64, pin uint64) error {
	held, err := v.holdSome(first, end, pin)
	if err != nil {
		v.unpin(first, held, pin)
	}
	return err
}

// holdSome is hold, but on an error holds the frames below held.
func (v *Viewer) holdSome(first, end int64, pin uint64) (held int64, err error) {
	for n := first; n < end; {
		switch v.take(n, pin) {
		case takenPinned:
			n++
		case takenBusy:
			v.await(n) // While nothing is claimed, so nobody waits for us.
		case takenClaimed:
			run, want := v.claimRun(n, end, pin)
			if err := v.fill(n, run, want, pin); err != nil {
				return n, err
			}
			n += want
		}
	}
	return end, nil
}

// claimRun claims the absent frames behind n, which is claimed already, up to
// end and as far beyond as reading ahead goes. It returns how many they are with
// n, and how many of these lie below end.
func (v *Viewer) claimRun(n, end int64, pin uint64) (run, want int64) {
	most := max(int64(maxFill)>>v.frameShift, 1)
	if v.limit > 0 {
		most = max(min(most, v.limit>>v.frameShift/4), 1)
	}
	stop, expected := end, end
	if pin != 0 { // A Prefetch knows what it wants.
		expected = v.ahead.stop(n, end, v.frameShift)
		stop = expected
		if huge := v.hugeFrames(); stop-n >= huge && v.movable() {
			stop += -stop & (huge - 1)
		}
	}
	stop = min(stop, n+most, v.frameCount())
	run = 1
	for n+run < stop && v.claim(n+run) {
		run++
	}
	if pin != 0 && n+run != expected {
		v.ahead.stopped(n, n+run)
	}
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
	f := filling{v: v, first: first, n: n, want: want, pin: pin}
	if n <= v.chunk() {
		_, err := f.fillPart(first, n)
		return err
	}
	return f.spread()
}

// chunk is the number of frames that fit into a scratch buffer.
func (v *Viewer) chunk() int64 { return v.scratch.size >> v.frameShift }

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
}

// A part is what one goroutine fills at a time: no more than a scratch buffer holds.
type part struct {
	frameRun
	piece *hugePiece // that it is a part of, nil where it is copied into place
}

// parts cuts a filling up, in order: huge pages where it can.
func (f filling) parts() []part {
	var parts []part
	chunk, huge, movable := f.v.chunk(), f.v.hugeFrames(), f.v.movable()
	for _, r := range cutRuns([]frameRun{{f.first, f.first + f.n}}, max(huge, chunk)) {
		var piece *hugePiece
		pieces := cutRuns([]frameRun{r}, chunk)
		if movable && r.end-r.first == huge {
			piece = &hugePiece{v: f.v, first: r.first}
			piece.left.Store(int64(len(pieces)))
		}
		for _, r := range pieces {
			parts = append(parts, part{r, piece})
		}
	}
	return parts
}

// spread fills part by part, in order, on all cores.
func (f filling) spread() error {
	parts := f.parts()
	pinned := make([]frameRun, len(parts))
	errs := make([]error, len(parts))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(len(parts), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(parts)); i = next.Add(1) - 1 {
				pinned[i], errs[i] = f.fillOne(parts[i])
			}
		})
	}
	wg.Wait()
	err := cmp.Or(errs...)
	if err != nil {
		for _, r := range pinned {
			f.v.unpin(r.first, r.end, f.pin)
		}
	}
	return err
}

// fillOne fills one part, or, where that is the last one of a huge page, settles
// all of that page's frames. It returns the frames that it pinned.
func (f filling) fillOne(p part) (pinned frameRun, err error) {
	if p.piece == nil {
		n, err := f.fillPart(p.first, p.end-p.first)
		return frameRun{p.first, p.first + n}, err
	}
	p.piece.decode(p.first, p.end-p.first)
	if p.piece.left.Add(-1) > 0 {
		return frameRun{}, nil
	}
	first, n := p.piece.first, f.v.hugeFrames()
	if p.piece.move() {
		f.v.count.frames.Add(n)
		return frameRun{first, first + f.settle(first, n, n)}, nil
	}
	pinned = frameRun{first, first}
	for at := first; at < first+n; at += f.v.chunk() {
		done, partErr := f.fillPart(at, f.v.chunk())
		if partErr != nil {
			err = cmp.Or(err, partErr)
			continue
		}
		if err == nil {
			pinned.end += done
		} else {
			f.v.unpin(at, at+done, f.pin)
		}
	}
	return pinned, err
}

// fillPart fills and settles n frames from first on, which fit into a scratch
// buffer. It returns how many it pinned: all that are wanted, or, with an error,
// none.
func (f filling) fillPart(first, n int64) (pinned int64, err error) {
	got, err := f.v.load(first, n)
	if want := f.wanted(first, n); got >= want {
		return f.settle(first, n, got), nil
	}
	f.pin, f.want = 0, 0
	f.settle(first, n, got)
	return 0, err
}

// wanted is how many of the n frames from first on are to be pinned.
func (f filling) wanted(first, n int64) int64 {
	return min(max(f.first+f.want-first, 0), n)
}

// settle settles n frames from first on, of which the first got are in memory, and
// returns how many of them it pinned: those that are wanted.
func (f filling) settle(first, n, got int64) (pinned int64) {
	v, want := f.v, f.wanted(first, n)
	if got > want {
		v.count.ahead.Add(got - want)
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
	if got < n {
		v.giveBack(n - got)
	}
	v.evictor.add(first, got)
	return want
}

// load brings in n claimed frames from first on, which fit into a scratch
// buffer, and returns how many it did before the error.
func (v *Viewer) load(first, n int64) (got int64, err error) {
	buf, err := v.scratch.get()
	if err != nil {
		return 0, err
	}
	defer v.scratch.put(buf)
	done, zeros, err := readFrames(v.src, first, buf.b[:n<<v.frameShift], time.Time{})
	got = int64(done)
	if errors.Is(err, ErrDamaged) {
		v.count.damaged.Add(1)
	}
	if err := v.install(first, got, buf, zeros); err != nil {
		return 0, err
	}
	v.count.frames.Add(got)
	if zeros != 0 {
		v.count.zeros.Add(int64(bits.OnesCount64(zeros)))
	}
	return got, err
}
