package uffdmap

import (
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
)

// hugeSize is the size of a huge page in bytes.
const hugeSize = 2 << 20

// A hugePiece is the frames of one huge page of a mapping on their way into it:
// goroutines decode them into a fresh huge page elsewhere, and the last one moves
// that into place, which is much cheaper than to copy its pages.
type hugePiece struct {
	v      *Viewer
	first  int64        // frame
	left   atomic.Int64 // parts that are not decoded yet
	failed atomic.Bool  // a part could not be decoded
	data   atomic.Bool  // not all is zero

	begin sync.Once
	buf   memory // none if there was none to be had
}

// movable says whether frames come into the mapping by moving huge pages. Where
// writes are tracked only a copy can install and protect in one step, and with a
// limit frames must be small enough to be evicted.
func (v *Viewer) movable() bool {
	return !v.editable && v.limit == 0 && v.uffd.Features()&uffd.FeatureMove != 0
}

// hugeFrames is the number of frames in a huge page.
func (v *Viewer) hugeFrames() int64 { return hugeSize >> v.frameShift }

// decode decodes n frames of p from first on.
func (p *hugePiece) decode(first, n int64) {
	p.begin.Do(p.getMemory)
	if p.buf.b == nil || p.failed.Load() {
		p.failed.Store(true)
		return
	}
	at := (first - p.first) << p.v.frameShift
	_, zeros, err := readFrames(p.v.src, first, p.buf.b[at:at+n<<p.v.frameShift], time.Time{})
	if err != nil {
		p.failed.Store(true)
	} else if bits.OnesCount64(zeros) < int(n) {
		p.data.Store(true)
	}
}

// getMemory gets a huge page that holds zeros.
func (p *hugePiece) getMemory() {
	buf, err := p.v.staging.get()
	if err != nil {
		return // There are other ways.
	}
	p.buf = buf
	p.buf.b[0] = 0 // One goroutine makes the page while no other waits for it.
}

// move puts the decoded page into place, and says whether it did. Otherwise the
// frames are absent as before: because one can't be read, because they are all
// zero and need no memory, or because the kernel refused.
func (p *hugePiece) move() bool {
	if p.buf.b == nil {
		return false
	}
	defer p.v.staging.put(p.buf)
	if !p.failed.Load() && p.data.Load() {
		dst := p.v.bytesOf(p.first, p.v.hugeFrames())
		err := p.v.moveTo(dst, p.buf.addr)
		if err == nil {
			return true
		}
		p.v.mem.drop(dst) // A part may have been moved.
	}
	p.buf.drop(p.buf.b) // Whoever gets it next finds zeros.
	return false
}

// moveTo moves the pages at src to dst, which is readable only, before and after.
// Nobody touches it meanwhile.
func (v *Viewer) moveTo(dst []byte, src uintptr) error {
	if err := unix.Mprotect(dst, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return fmt.Errorf("allow to move: %w", err)
	}
	addr := address(dst)
	var err error
	for done := 0; done < len(dst) && err == nil; {
		var n int
		n, err = v.uffd.Move(addr+uintptr(done), src+uintptr(done), uintptr(len(dst)-done), uffd.MoveDontWake)
		done += n
		if err == unix.EAGAIN {
			runtime.Gosched()
			err = nil
		}
	}
	if e := unix.Mprotect(dst, unix.PROT_READ); err == nil {
		err = e
	}
	return err
}
