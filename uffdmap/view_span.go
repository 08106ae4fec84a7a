package uffdmap

import (
	"fmt"
	"sync/atomic"

	"lazyfs/store"
)

// A Span is a range of a View mapping that stays in memory until Release.
type Span struct {
	v          *Viewer
	b          []byte
	first, end int64 // frames
	pin        uint64
	released   atomic.Bool
}

// View brings the n bytes at off into memory and holds them. They may be read
// until the Span is released, and must not be written.
//
// A frame that can't be read gives an error, which matches ErrDamaged if its
// stored bytes are not what was written; more than MemoryLimit allows to be held
// at once gives ErrLimit.
func (v *Viewer) View(off, n int64) (*Span, error) {
	return v.span("view", off, n, pinOne)
}

// Edit is View for bytes that may be written, too. What is written reaches the
// store by Sync or Close. Where the kernel does not track writes, all pages of
// the range count as written. Where it does, direct I/O that was begun before a
// Sync and arrives after it is not noticed, nor what io_uring puts into a fixed
// buffer: write to the pages again then, a byte of each is enough.
func (v *Viewer) Edit(off, n int64) (*Span, error) {
	if !v.editable {
		return nil, fmt.Errorf("edit %s: %w", v.path, ErrReadOnly)
	}
	return v.span("edit", off, n, editOne)
}

func (v *Viewer) span(act string, off, n int64, pin uint64) (*Span, error) {
	if err := v.enter(); err != nil {
		return nil, err
	}
	defer v.leave()
	if off < 0 || n < 0 || off > v.size-n {
		return nil, fmt.Errorf("%s %s: %#x bytes at %#x do not lie in its %#x bytes", act, v.path, n, off, v.size)
	}
	first, end := v.framesOf(off, n)
	err := v.fits(first, end)
	if err == nil {
		err = v.pass(func() error { return v.hold(first, end, pin) })
	}
	if err != nil {
		return nil, fmt.Errorf("%s %#x bytes at %#x of %s: %w", act, n, off, v.path, err)
	}
	if pin == editOne {
		v.noteEdit(off, n)
		v.expectSync()
	}
	v.spans.Add(2)
	return &Span{v: v, b: v.mem.b[off : off+n : off+n], first: first, end: end, pin: pin}, nil
}

// framesOf returns the first frame of a range and the one behind its last.
func (v *Viewer) framesOf(off, n int64) (first, end int64) {
	if n == 0 {
		return 0, 0
	}
	return v.frameOf(off), v.frameOf(off+n-1) + 1
}

// fits refuses what could not be in memory at once.
func (v *Viewer) fits(first, end int64) error {
	if need := (end - first) << v.frameShift; v.limit > 0 && need > v.limit {
		return fmt.Errorf("%w: %d bytes of frames do not fit into %d", ErrLimit, need, v.limit)
	}
	return nil
}

// noteEdit counts the pages of a range as written if the kernel does not tell.
// The range is held for editing: a Sync sees either the pages or the holder.
func (v *Viewer) noteEdit(off, n int64) {
	if !v.tracked() && n > 0 {
		v.dirty.add(off/store.PageSize, (off+n-1)/store.PageSize+1)
	}
}

// Bytes are the bytes of the span, nil once it is released. They lie outside
// Go's heap. Touching them after Release may trap: with SIGBUS as soon as their
// frame was evicted, which debug.SetPanicOnFault makes a panic. It never waits,
// and never reads bytes that are not the store's.
//
// A program that drops pages of it with MADV_DONTNEED or MADV_FREE loses what it
// wrote to them since the last Sync. Touching them traps likewise until ReadAt or
// WriteAt, or a Sync that writes their frame, has brought them back. The memory
// must not be unmapped, moved, or mapped over.
func (s *Span) Bytes() []byte {
	if s.released.Load() {
		return nil
	}
	return s.b
}

// Release lets go of the range. Only the first call counts.
func (s *Span) Release() {
	if s.released.Swap(true) {
		return
	}
	s.v.unpin(s.first, s.end, s.pin)
	if s.v.spans.Add(-2) == 1 {
		s.v.tearDown() // The mapping is closed, and this was the last span.
	}
}
