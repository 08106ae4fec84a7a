package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// copyPieces writes every frame that can be read into the new store, and reports
// what is lost.
func (r *salvage) copyPieces(w *builder) error {
	c := &pieceCopier{r: r, w: w, t: &batch{},
		plain: make([]byte, MaxFrameSize), stored: make([]byte, frameHeadLen+MaxFrameSize)}
	c.later = slices.Sorted(maps.Keys(r.set))
	err := r.walkAll(visit{
		frame: func(p piece) error {
			if err := c.setBefore(p.number); err != nil {
				return err
			}
			if _, replaced := r.set[p.number]; replaced || r.clear.has(p.number) {
				return nil
			}
			return c.copy(p)
		},
		blank: func(from, to int64, cause string) error {
			if r.exact {
				return nil
			}
			return c.blank(from, to, cause)
		},
		lost: func(from, to int64, cause string) {
			if r.exact { // It need not be: an older frame may be as long as the newest.
				r.loseFrames(from, min(to, maxFrameNumber), true, cause+agrees)
			}
		},
	})
	if err == nil {
		err = c.setBefore(maxFrameNumber + 1)
	}
	return firstError(err, c.flush())
}

// agrees is said of frames that a scan found.
const agrees = "; what a scan found agrees with the superblock in number and length"

// A pieceCopier copies frames into a new store.
type pieceCopier struct {
	r      *salvage
	w      *builder
	t      *batch
	plain  []byte
	stored []byte
	later  []int64 // frames of the log that are still to come
}

// setBefore copies the frames of the log below number n.
func (c *pieceCopier) setBefore(n int64) error {
	for len(c.later) > 0 && c.later[0] < n {
		p := c.r.set[c.later[0]]
		c.later = c.later[1:]
		if err := c.copy(p); err != nil {
			return err
		}
	}
	return nil
}

// blank reports frames of which nothing is known, but for those that the log
// tells about.
func (c *pieceCopier) blank(from, to int64, cause string) error {
	to = min(to, c.r.frameCount())
	for from < to {
		if err := c.setBefore(from); err != nil {
			return err
		}
		end := to
		if len(c.later) > 0 {
			end = min(to, c.later[0])
		}
		c.r.clear.without(span{from, end}, func(s span) bool {
			c.r.loseFrames(s.from, s.to, false, cause)
			return true
		})
		from = end + 1
	}
	return nil
}

// copy copies one frame, or reports its loss.
func (c *pieceCopier) copy(p piece) error {
	r := c.r
	n := p.number
	if n >= r.frameCount() {
		return nil
	}
	switch p.kind {
	case kindHole: // The log says so.
		return nil
	case kindZero:
		c.doubt(p)
		c.t.addZero(n)
		return c.flushFull(n)
	}
	stored := c.stored[:frameHeadLen+p.payload]
	err := r.readStored(p, stored)
	plain := 0
	if err == nil {
		plain, err = decodePiece(p, stored, c.plain)
	}
	if frame := r.sb.frameSize(); err == nil && (plain > frame || p.payload > frame) {
		err = damagef("", p.off, "payload of %d bytes decodes to %d, frames are %d", p.payload, plain, frame)
	}
	if err != nil {
		r.loseFrames(n, n+1, false, fmt.Sprintf("frame at offset %#x: %s", p.off, causeOf(err)))
		return nil
	}
	c.doubt(p)
	if left := r.size - n<<r.sb.frameShift; int64(plain) > left { // An older form of the last frame.
		if err := c.w.s.compressBatch(c.t, c.plain[:left], n<<r.sb.frameShift); err != nil {
			return err
		}
		return c.flushFull(n)
	}
	sum := putFrameHead(stored, c.w.s.idSum, p.kind, n, c.w.s.gen+1)
	c.t.add(n, stored, p.kind, plain, sum)
	return c.flushFull(n)
}

// doubt reports a frame that may not be of the newest commit: also one that was written
// for that may have been written again, or become a hole, before it.
func (c *pieceCopier) doubt(p piece) {
	if r := c.r; p.scanned && !r.exact {
		r.loseFrames(p.number, p.number+1, true, "index is lost: what a scan found may be older")
	}
}

func (c *pieceCopier) flushFull(n int64) error {
	if !c.t.full() {
		return nil
	}
	c.r.tell(n << c.r.sb.frameShift)
	return c.flush()
}

func (c *pieceCopier) flush() error {
	if c.r.ctx.Err() != nil {
		return context.Cause(c.r.ctx)
	}
	err := c.w.append(c.t)
	c.t.clear()
	return err
}
