package store

import (
	"context"
	"errors"
	"fmt"
)

// A visit receives what the index says, or the scan where it is lost, in order of
// frame numbers.
type visit struct {
	// frame receives each frame that is no hole.
	frame func(p piece) error
	// blank receives frames of which nothing was found, though they may have been
	// there: cause says why that is not known.
	blank func(from, to int64, cause string) error
	// lost receives frames whose index is lost, before what a scan found of them.
	lost func(from, to int64, cause string)
}

// survey walks the index a first time, to see what is lost and how far the scan
// makes up for it.
func (r *salvage) survey() error {
	err := r.walkAll(visit{
		frame: func(p piece) error {
			r.last = p
			if p.kind != kindZero {
				r.frames++
				r.stored += p.entry().extent().len
			}
			return nil
		},
		blank: func(int64, int64, string) error { return nil },
		lost:  func(int64, int64, string) {},
	})
	if err != nil {
		return err
	}
	r.exact = r.known && r.frames == r.sb.frames && r.stored == r.sb.stored
	if !r.known {
		r.guessSize()
	}
	return nil
}

// guessSize takes the plain size from the last frame.
func (r *salvage) guessSize() {
	for _, p := range r.set {
		if p.number >= r.last.number {
			r.last = p
		}
	}
	plain := r.sb.frameSize()
	if r.last.kind.isFrame() {
		if n, err := r.read(r.last, make([]byte, MaxFrameSize)); err == nil {
			plain = min(n, plain)
		}
	}
	// No store has frames behind MaxSize, whose offsets would overflow.
	last := min(r.last.number, MaxSize>>r.sb.frameShift-1)
	r.size = last<<r.sb.frameShift + int64(plain)
	r.lose(Loss{Kept: true, Cause: fmt.Sprintf("superblocks are lost: frames of %d bytes, and %d bytes of plain data, "+
		"are a guess from the frames that were found; what became zeros since the index was written may be as before",
		r.sb.frameSize(), r.size)})
}

func (r *salvage) walkAll(v visit) error {
	if r.sb.depth == 0 {
		return nil
	}
	if r.sb.root != (entry{}) {
		return r.walk(v, indexed(0, r.sb.root), int(r.sb.depth)-1)
	}
	return r.walkLost(v, int(r.sb.depth)-1, 0, "index is lost")
}

// walk visits what lies below the node p. What a node says that was found by a
// scan is as good as what a scan says.
func (r *salvage) walk(v visit, p piece, level int) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	entries, err := r.readNode(p, level)
	if err != nil {
		cause := fmt.Sprintf("index node at offset %#x: %s", p.off, causeOf(err))
		if !p.scanned {
			v.lost(p.number, p.number+fanout*levelSpan(level), cause)
		}
		return r.walkLost(v, level, p.number, cause)
	}
	for i := range int64(fanout) {
		at := p.number + i*levelSpan(level)
		kid := piece{}
		if i < int64(len(entries)) && entries[i] != (entry{}) {
			kid = indexed(at, entries[i])
			kid.scanned = p.scanned
		}
		switch {
		case kid.kind == kindHole && p.scanned:
			err = v.blank(at, at+levelSpan(level), "index is lost: this may have been no hole")
		case kid.kind == kindHole:
		case level > 0:
			err = r.walk(v, kid, level-1)
		default:
			err = v.frame(kid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *salvage) readNode(p piece, level int) ([]entry, error) {
	x := index{shift: r.sb.frameShift}
	if p.kind != kindNode+kind(level) || p.payload > fanout*entryLen || p.payload%entryLen != 0 {
		return nil, damagef("index", p.off, "node is of kind %#x with %d bytes", uint8(p.kind), p.payload)
	}
	stored := make([]byte, frameHeadLen+p.payload)
	if err := r.readStored(p, stored); err != nil {
		return nil, err
	}
	entries := decodeNode(stored[frameHeadLen:])
	for i, e := range entries {
		if err := x.check(e, level, p.number+int64(i)*levelSpan(level)); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// walkLost visits what a scan finds below a node that is lost: nodes of the next
// level, or where there are none, frames.
func (r *salvage) walkLost(v visit, level int, first int64, cause string) error {
	if err := r.scan(); err != nil {
		return err
	}
	if level == 0 {
		return r.visitFound(v, first, first+fanout, cause)
	}
	blank, end := first, first+fanout*levelSpan(level)
	for {
		n := r.found.next(level-1, blank)
		if n >= end {
			return v.blank(blank, end, cause)
		}
		from := n &^ (levelSpan(level) - 1)
		err := v.blank(blank, from, cause)
		if err != nil {
			return err
		}
		if p, ok := r.found.node(level-1, from); ok && !p.bad {
			err = r.walk(v, p, level-1)
		} else {
			err = r.walkLost(v, level-1, from, cause)
		}
		if err != nil {
			return err
		}
		blank = from + levelSpan(level)
	}
}

// visitFound visits the frames that the scan found.
func (r *salvage) visitFound(v visit, from, to int64, cause string) error {
	cause += "; no frame was found there"
	for i := r.found.frame(from); i < len(r.found.frames); i++ {
		p := r.found.frames[i]
		if p.number >= to {
			break
		}
		if err := v.blank(from, p.number, cause); err != nil {
			return err
		}
		if err := v.frame(p); err != nil {
			return err
		}
		from = p.number + 1
	}
	return v.blank(from, to, cause)
}

// inlineFrame is frame 0 of a store that lies in its superblock.
func (r *salvage) inlineFrame() inlineFrame {
	f := inlineFrame{data: r.sb.inline, kind: r.sb.inlineKind, plain: r.sb.inlinePlain}
	if f.data == nil {
		return inlineFrame{}
	}
	n, err := decoders[f.kind].Decode(make([]byte, r.sb.frameSize()), f.data)
	if err == nil && n == f.plain {
		return f
	}
	r.loseFrames(0, 1, false, fmt.Sprintf("data in the superblock: it decodes to %d bytes, want %d: %v", n, f.plain, err))
	return inlineFrame{}
}

// causeOf is what is wrong with a damaged part, without saying where.
func causeOf(err error) string {
	var d *DamageError
	if errors.As(err, &d) {
		return d.Detail
	}
	return err.Error()
}
