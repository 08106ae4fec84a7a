package store

import (
	"context"
	"errors"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// checkBatch is the number of frames that Check verifies in parallel.
const checkBatch = 256

// Check reads everything that the store's generation names and verifies it:
// superblocks, index, checksums and headers of frames, that each decodes to what
// it should, that no two share bytes, and that the sums are right. It calls
// report for each damage, in the order of plain offsets, and progress, when not
// nil, now and then with the plain bytes passed and the size: both from one
// goroutine, and they may use s. The error says why Check could not go on; damage
// is none, nor is a frame where the disk fails: that counts as damage.
func (s *Store) Check(ctx context.Context, report func(*DamageError), progress func(done, total int64)) error {
	c := &checker{s: s}
	defer func() { c.tell(report) }()
	if err := c.superblocks(); err != nil {
		return err
	}
	next, end := int64(0), s.frameCount(s.Size())
	for next < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var err error
		if next, err = c.frames(next, end); err != nil {
			return err
		}
		c.tell(report)
		if progress != nil {
			progress(min(next<<s.shift, s.Size()), s.Size())
		}
	}
	return c.whole()
}

type checker struct {
	s      *Store
	found  bool
	untold []*DamageError
}

// tell reports what was found since it was called last.
func (c *checker) tell(report func(*DamageError)) {
	for _, d := range c.untold {
		report(d)
	}
	c.untold = nil
}

// damage notes err if it is damage, and returns it otherwise.
func (c *checker) damage(err error) error {
	var d *DamageError
	if err == nil || !errors.As(err, &d) {
		return err
	}
	if d.Path == "" {
		d.Path = c.s.Path()
	}
	c.found = true
	c.untold = append(c.untold, d)
	return nil
}

// superblocks checks that a superblock which was there when the other was made a
// copy of it is still there.
func (c *checker) superblocks() error {
	s := c.s
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return os.ErrClosed
	}
	if !s.sb.copied {
		return nil
	}
	size, err := s.d.Size()
	if err != nil {
		return err
	}
	var b [slotLen]byte
	off := int64(1-s.slot) * slotLen
	if _, err := s.d.ReadAt(b[:], off); err != nil {
		return c.damage(readError(err, "superblock", off))
	}
	_, err = decodeSuperblock(b[:], off, size)
	if errors.Is(err, ErrNotStore) {
		err = damagef("superblock", off, "no magic found, want %q", magic)
	}
	return c.damage(err)
}

// frames verifies the next frames from number next on and returns where to go on.
func (c *checker) frames(next, end int64) (int64, error) {
	s := c.s
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, os.ErrClosed
	}
	var found []frameEntry
	from := next
	if next == 0 && s.inline.data != nil {
		e, _ := s.entryOf(0)
		found, from = append(found, frameEntry{0, e}), 1
	}
	scanned := s.idx.scan(from, end, func(n int64, e entry) bool {
		found = append(found, frameEntry{n, e})
		return len(found) < checkBatch
	})
	if err := c.verify(found); err != nil {
		return 0, err
	}
	var bad *DamageError
	if errors.As(scanned, &bad) && bad.Plain.Len > 0 {
		next = s.frameOf(bad.Plain.Off + bad.Plain.Len)
		return next, c.damage(s.blame(scanned, 0))
	}
	if scanned != nil {
		return 0, scanned
	}
	if len(found) < checkBatch {
		return end, nil
	}
	return found[len(found)-1].number + 1, nil
}

// verify decodes frames in parallel and notes the damaged ones in order.
func (c *checker) verify(frames []frameEntry) error {
	errs := make([]error, len(frames))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	const step = 16
	for at := 0; at < len(frames); at += step {
		g.Go(func() error {
			b := getBuffer(c.s.frameSize)
			defer putBuffer(b)
			for i := at; i < min(at+step, len(frames)); i++ {
				errs[i] = c.verifyOne(frames[i], b.b[:c.s.frameSize])
			}
			return nil
		})
	}
	g.Wait()
	for _, err := range errs {
		if err := c.damage(err); err != nil {
			return err
		}
	}
	return nil
}

// verifyOne decodes a frame into b, a whole frame, or checks the entry of one that has no
// bytes. That the disk fails where a frame lies is damage of that one alone.
func (c *checker) verifyOne(f frameEntry, b []byte) error {
	s := c.s
	if f.entry.kind() != kindInline && !f.entry.onDisk() {
		return s.blame(checkFrameEntry(f.entry, f.number, s.frameSize, maxFileSize), f.number)
	}
	err := s.decodeFrame(f.number, f.entry, b)
	if errors.Is(err, unix.EIO) {
		return s.blame(damagef(framePart(f.entry.kind(), f.number), f.entry.off(), "%v", unix.EIO), f.number)
	}
	return err
}

// whole checks what concerns the index as a whole: that no extents overlap, and
// that the superblock's sums are right. A damaged index is not asked.
func (c *checker) whole() error {
	s := c.s
	if c.found {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var used []extent
	var frames, stored int64
	var beyond error
	err := s.idx.scan(0, maxFrameNumber+1, func(n int64, e entry) bool {
		if beyond = c.behindEnd(n, e); beyond != nil {
			return false
		}
		if e.onDisk() {
			used = append(used, e.extent())
			frames++
			stored += e.extent().len
		}
		return true
	})
	if err = firstError(err, beyond); err != nil {
		return c.damage(s.blame(err, 0))
	}
	if s.space == nil { // A writer's index on disk may be older than its frames.
		err = s.idx.nodes(func(_ int64, e entry) error {
			used = append(used, e.extent())
			return nil
		})
		if err != nil {
			return c.damage(s.blame(err, 0))
		}
		if err := c.behindAll(used); err != nil {
			return c.damage(err)
		}
	}
	if _, err := newAllocator(dataStart, used); err != nil {
		return c.damage(err)
	}
	if frames != s.frames || stored != s.stored {
		return c.damage(damagef("superblock", int64(s.slot)*slotLen+120, "counts %d frames of %d bytes, found %d of %d",
			s.frames, s.stored, frames, stored))
	}
	return nil
}

// behindEnd finds plain bytes of frame n that lie behind the end of the store,
// where they would show as soon as it grows.
func (c *checker) behindEnd(n int64, e entry) error {
	s := c.s
	if s.waiting(n) != nil {
		return nil // What it holds on disk is on its way out.
	}
	switch left := s.size - n<<s.shift; {
	case n >= s.frameCount(s.size):
		return e.damagef(n, "a frame lies behind the end, which is %#x", s.size)
	case e.onDisk() && int64(e.plain()) > left:
		return e.damagef(n, "%d plain bytes, want at most %d: the end is %#x", e.plain(), left, s.size)
	}
	return nil
}

// behindAll finds an extent that lies behind the end that the superblock says, where
// a writer may cut the file. What a log names may lie there.
func (c *checker) behindAll(used []extent) error {
	s := c.s
	if len(s.logBlocks) > 0 {
		return nil
	}
	for _, e := range used {
		if e.end()-s.sb.end >= unit { // The rounding behind the last frame of a file may be missing.
			return damagef("superblock", int64(s.slot)*slotLen+112, "store ends at %#x, extent %#x..%#x lies behind it", s.sb.end, e.off, e.end())
		}
	}
	return nil
}
