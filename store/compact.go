package store

import (
	"context"
	"os"

	"lazyfs/codec"
)

// CompactOptions adjust Compact. The zero value is ready to use.
type CompactOptions struct {
	// Codec, when not zero, compresses all frames again, and those written from
	// then on, at Level, whose zero is the codec's default. A zero Codec with a
	// Level means the store's own codec; with neither, frames move as they are.
	Codec codec.ID
	Level int

	// Progress, when not nil, is called now and then, from one goroutine, with the
	// stored bytes dealt with and how many are to be as far as is known; that
	// grows where space turns out to lie in pieces.
	Progress func(done, total int64)
}

// Bounds of a compaction.
const (
	// slackShare of the bytes in use, and room for two nodes, may stay free.
	slackShare = 64
	minSlack   = 32 << 10
	// compactStep bounds the stored bytes between two commits.
	compactStep = 8 << 20
	// minWindow, or a windowShare of the file if that is more, is the stretch that is
	// emptied at a time when the free space lies in pieces too small for any frame. It
	// is the most that the file grows by while it is compacted.
	minWindow   = 1 << 20
	windowShare = 64
	// maxSweeps bounds how often the file is gone through for windows.
	maxSweeps = 16
	// maxTail bounds the frames that are planned for at a time, which take 90 MiB of memory.
	maxTail = 1 << 20
)

// Compact gives the free space of the file back: it moves frames and index nodes
// that lie behind the bytes in use into gaps between them, and cuts the file. It
// goes by ordinary commits, beginning with one of all that was written, so that
// it may be broken off at any time, and writers may go on meanwhile. What readers
// of older generations still see stays until they are gone: call it again then.
//
// At the end no more than 1/64 of the bytes in use and 32 KiB are free. The
// file grows by 1/64 or 1 MiB meanwhile at most, unless frames are compressed
// again beside a reader of an older generation: then both forms take room.
//
// A frame that is damaged is not moved: Compact ends with its *DamageError.
func (s *Store) Compact(ctx context.Context, o CompactOptions) error {
	c := newCompactor(s, ctx, o, compactStep)
	if err := c.run(); err != nil {
		return during("compact", s.Path(), err)
	}
	return nil
}

// A compactor is one run of Compact.
type compactor struct {
	s     *Store
	ctx   context.Context
	o     CompactOptions
	step  int64 // stored bytes between two commits
	done  int64 // stored bytes dealt with
	slack int64 // bytes that may stay free in the smallest store

	recode bool  // frames are compressed again
	poor   bool  // the disk is nearly full
	swept  int64 // up to this offset no stretch is left with much free space
	sweeps int   // how often swept was 0 again
	free   int64 // bytes that were free when swept was 0
	lowest int64 // the lowest end since a window was opened
	idle   int   // rounds since the end was lowered
	window extent
	aimed  int64 // gaps below this offset are too small for nodes
}

func newCompactor(s *Store, ctx context.Context, o CompactOptions, step int64) *compactor {
	return &compactor{s: s, ctx: ctx, o: o, step: step, slack: minSlack, lowest: maxFileSize, free: maxFileSize}
}

func (c *compactor) run() error {
	if err := c.begin(); err != nil {
		return err
	}
	if c.recode {
		if err := c.recompress(); err != nil {
			return err
		}
	}
	for {
		more, err := c.round()
		if err != nil {
			return err
		}
		if !more {
			return c.trim()
		}
	}
}

// begin commits what was written, learns which space is free, and sets the codec that o
// names.
func (c *compactor) begin() error {
	s := c.s
	if err := s.Sync(); err != nil {
		return err
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.loadSpace(); err != nil {
		return err
	}
	if err := s.ensure(s.need(0)); err != nil && !isNoSpace(err) {
		return err
	}
	if c.o.Codec == 0 && c.o.Level == 0 {
		return nil
	}
	return c.setCodec()
}

// setCodec makes the codec that o names that of the store. What lies in the superblock
// waits to be compressed again, the rest is left to recompress. The caller holds the
// store's gate alone, and its mu.
func (c *compactor) setCodec() error {
	s, id := c.s, c.o.Codec
	if id == 0 {
		id = s.newCodec().ID()
	}
	to, err := codec.New(id, c.o.Level)
	if err != nil {
		return err
	}
	if err := s.reserveRecord(s.size); err != nil {
		return err
	}
	s.codec.Store(&to)
	s.level, c.recode = c.o.Level, true
	s.changes = true // The superblock names it.
	if s.inline.data == nil {
		return nil
	}
	_, err = s.writeFrame(0, false, s.size)
	return err
}

// A layout says how much of the file is in use. Offsets and lengths in bytes.
type layout struct {
	end  int64 // first byte behind all that is in use
	free int64 // bytes below it that are not
	goal int64 // where end could lie, half the slack included

	slack int64 // bytes that may stay free
}

func (l layout) tight() bool { return l.free <= l.slack }

func (c *compactor) layout() layout {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reclaim()
	// The file can't end before the end that its superblock says.
	l := layout{end: max(s.space.end(), s.sb.end), free: s.space.freeBytes()}
	l.free += l.end - s.space.end()
	for _, e := range s.doomed() {
		l.free += e.len // Once the store is closed.
	}
	l.slack = c.slack + (l.end-dataStart-l.free)/slackShare
	l.goal = min(l.end, l.end-l.free+l.slack/2)
	return l
}

// round moves what lies behind the goal as far as there are gaps for it. When
// that brings nothing it makes gaps. It reports whether another round is due.
func (c *compactor) round() (bool, error) {
	if err := c.alive(); err != nil {
		return false, err
	}
	before := c.layout()
	if before.tight() && !c.logged() {
		return false, nil
	}
	if err := c.fill(before.goal); err != nil {
		return false, err
	}
	if err := c.moveNodes(before.goal); err != nil {
		return false, err
	}
	now := c.layout()
	if now.end < c.lowest-now.slack/4 {
		c.lowest, c.idle = now.end, 0
		return true, nil
	}
	if now.tight() || c.pinned() {
		return false, nil
	}
	if c.idle++; c.idle < 2 {
		return true, nil // A node or the log may have lain at the end.
	}
	c.lowest, c.idle = maxFileSize, 0
	return c.openWindow(now)
}

// logged reports whether the store has a log. Closing it would write a checkpoint, which
// is better done here: behind what lies at the end that makes the file longer again.
func (c *compactor) logged() bool {
	c.s.mu.RLock()
	defer c.s.mu.RUnlock()
	return len(c.s.logBlocks) > 0
}

// alive returns why the compaction has to stop, nil when it needn't.
func (c *compactor) alive() error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	c.s.mu.RLock()
	defer c.s.mu.RUnlock()
	return c.s.usable()
}

// pinned reports whether readers keep freed space from being used.
func (c *compactor) pinned() bool {
	s := c.s
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.limbo) > 0 && s.limbo[0].gen <= s.durable
}

// trim gives back all free space, that which earlier writers left included.
func (c *compactor) trim() error {
	s := c.s
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	s.reclaim()
	s.punchFree(true)
	return nil
}

// frames calls yield for every frame on disk, in order of their numbers. yield
// runs under mu, which is let go now and then.
func (c *compactor) frames(from int64, yield func(n int64, e entry) bool) error {
	for more := true; more; {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		var err error
		if from, more, err = c.someFrames(from, yield); err != nil {
			return err
		}
	}
	return nil
}

// someFrames is frames for no more of them than others may wait for. It returns where to go
// on, and whether to.
func (c *compactor) someFrames(from int64, yield func(n int64, e entry) bool) (next int64, more bool, err error) {
	const atOnce = 1 << 14
	s := c.s
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, false, os.ErrClosed
	}
	seen := 0
	next = from
	err = s.idx.scan(from, maxFrameNumber+1, func(n int64, e entry) bool {
		seen, next = seen+1, n+1
		if e.onDisk() && !yield(n, e) {
			seen = 0
			return false
		}
		return seen < atOnce
	})
	return next, seen == atOnce, s.blame(err, next)
}

func (c *compactor) progress(done, left int64) {
	c.done += done
	if c.o.Progress != nil {
		c.o.Progress(c.done, c.done+left)
	}
}
