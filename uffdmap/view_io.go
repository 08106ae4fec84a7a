package uffdmap

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"lazyfs/store"
)

// pieceLen is how much ReadAt and WriteAt hold at a time, in bytes.
const pieceLen = 1 << 20

// ReadAt reads bytes of the mapping, bringing in what is absent (io.ReaderAt).
func (v *Viewer) ReadAt(p []byte, off int64) (int, error) {
	if err := v.enter(); err != nil {
		return 0, err
	}
	defer v.leave()
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d: negative offset", v.path, off)
	}
	done := 0
	for done < len(p) && off+int64(done) < v.size {
		n, err := v.readPiece(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, fmt.Errorf("read %s at %#x: %w", v.path, off+int64(done), err)
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// readPiece reads the beginning of p, as much of it as can be held at once. The
// next piece meets the error of what can't.
func (v *Viewer) readPiece(p []byte, off int64) (n int, err error) {
	end := min(v.pieceEnd(off), off+int64(len(p)), v.size)
	first, last := v.framesOf(off, end-off)
	err = v.pass(func() error {
		held, err := v.holdSome(first, last, pinOne)
		if held == first && errors.Is(err, ErrLimit) && last > first+1 {
			held, err = v.holdSome(first, first+1, pinOne)
		}
		if held == first {
			return err
		}
		defer v.unpin(first, held, pinOne)
		b := v.mem.b[off:min(end, held<<v.frameShift)]
		n, err = v.copyHeld(p, b, b)
		return err
	})
	return n, err
}

// pieceEnd is where a piece that begins at off ends: at the end of a frame, and
// without needing much of the limit.
func (v *Viewer) pieceEnd(off int64) int64 {
	piece := int64(pieceLen)
	if v.limit > 0 {
		piece = min(piece, v.limit/4)
	}
	return max(off+piece, off+1)&^(v.frameSize()-1) + v.frameSize()
}

// WriteAt writes bytes of the mapping (io.WriterAt). It can't make it longer:
// what would lie behind its end is not written, and gives io.ErrShortWrite.
func (v *Viewer) WriteAt(p []byte, off int64) (int, error) {
	if err := v.enter(); err != nil {
		return 0, err
	}
	defer v.leave()
	v.expectSync()
	switch {
	case !v.editable:
		return 0, fmt.Errorf("write %s: %w", v.path, ErrReadOnly)
	case off < 0:
		return 0, fmt.Errorf("write %s at %d: negative offset", v.path, off)
	}
	done := 0
	for done < len(p) && off+int64(done) < v.size {
		n, err := v.writePiece(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, fmt.Errorf("write %s at %#x: %w", v.path, off+int64(done), err)
		}
	}
	if done < len(p) {
		return done, fmt.Errorf("write %s at %#x, its end: %w", v.path, v.size, io.ErrShortWrite)
	}
	return done, nil
}

// writePiece writes the beginning of p, up to the end of a frame.
func (v *Viewer) writePiece(p []byte, off int64) (n int, err error) {
	err = v.pass(func() error {
		n, err = v.writeHeld(p, off)
		return err
	})
	return n, err
}

func (v *Viewer) writeHeld(p []byte, off int64) (int, error) {
	n := v.frameOf(off)
	end := min((n+1)<<v.frameShift, v.size)
	if whole := end - n<<v.frameShift; off == n<<v.frameShift && int64(len(p)) >= whole {
		if done, err := v.writeAbsent(n, p[:whole]); err != nil {
			return 0, err
		} else if done {
			return int(whole), nil
		}
	}
	end = min(end, off+int64(len(p)))
	if err := v.hold(n, n+1, editOne); err != nil {
		return 0, err
	}
	defer v.unpin(n, n+1, editOne)
	v.noteEdit(off, end-off)
	b := v.mem.b[off:end]
	return v.copyHeld(b, p, b)
}

// writeAbsent makes p frame n without decompressing what that was, if the frame
// is absent.
func (v *Viewer) writeAbsent(n int64, p []byte) (bool, error) {
	if v.frames[n].Load() != 0 {
		return false, nil
	}
	buf, err := v.scratch.get()
	if err != nil {
		return false, err
	}
	defer v.scratch.put(buf)
	// Before the frame is claimed, since p may be memory that traps.
	clear(buf.b[copy(buf.b, p):v.frameSize()])
	if !v.claim(n) {
		return false, nil
	}
	if err := v.reserve(1); err != nil {
		v.abandon(n, 1)
		return false, err
	}
	if err := v.install(n, 1, buf, 0); err != nil {
		v.abandon(n, 1)
		v.giveBack(1)
		return false, err
	}
	off := n << v.frameShift
	v.dirty.add(off/store.PageSize, (off+int64(len(p))-1)/store.PageSize+1)
	v.settle(n, frameResident|frameUsed)
	v.evictor.add(n, 1)
	return true, nil
}

// Prefetch brings ranges into memory, without ranges all of the mapping, on all
// cores and in the order of their offsets. What lies outside the mapping is
// ignored. More than MemoryLimit gives ErrLimit, and brings in nothing.
func (v *Viewer) Prefetch(ranges ...Range) error {
	if err := v.enter(); err != nil {
		return err
	}
	defer v.leave()
	if len(ranges) == 0 {
		ranges = []Range{{0, v.size}}
	}
	runs := v.runsOf(ranges)
	total := int64(0)
	for _, r := range runs {
		total += r.end - r.first
	}
	if err := v.fits(0, total); err != nil {
		return fmt.Errorf("prefetch %s: %w", v.path, err)
	}
	err := onAllCores(cutRuns(runs, max(v.hugeFrames(), 1)), func(r frameRun) error {
		return v.pass(func() error { return v.hold(r.first, r.end, 0) })
	})
	if err != nil {
		return fmt.Errorf("prefetch %s: %w", v.path, err)
	}
	return nil
}

// A frameRun is the frames from first on and below end.
type frameRun struct{ first, end int64 }

// runsOf turns ranges into runs of frames, in order, without overlaps.
func (v *Viewer) runsOf(ranges []Range) []frameRun {
	var runs []frameRun
	for _, r := range ranges {
		off, end := max(r.Off, 0), min(r.End(), v.size)
		if r.Len > 0 && off < end {
			first, last := v.framesOf(off, end-off)
			runs = append(runs, frameRun{first, last})
		}
	}
	return joinRuns(runs)
}

// joinRuns sorts runs and joins those that overlap or touch.
func joinRuns(runs []frameRun) []frameRun {
	slices.SortFunc(runs, func(a, b frameRun) int { return cmp.Compare(a.first, b.first) })
	joined := runs[:0]
	for _, r := range runs {
		if last := len(joined) - 1; last >= 0 && r.first <= joined[last].end {
			joined[last].end = max(joined[last].end, r.end)
		} else {
			joined = append(joined, r)
		}
	}
	return joined
}

// cutRuns cuts runs, at multiples of most frames, into pieces of no more than that.
func cutRuns(runs []frameRun, most int64) []frameRun {
	var pieces []frameRun
	for _, r := range runs {
		for r.first < r.end {
			end := min(r.first-r.first%most+most, r.end)
			pieces = append(pieces, frameRun{r.first, end})
			r.first = end
		}
	}
	return pieces
}
