package store

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Space is reserved when a write is accepted, or when a FrameWriter writes what it
// gathered, behind the end of the file: a full disk is an error of that, not of the
// Sync that would have to keep it. When the disk has no more of it, free space within
// the file that has blocks is promised instead.

// Bounds of what is reserved at a time beyond what is needed, in bytes.
const (
	minReserve = 64 << 10
	maxReserve = 16 << 20
)

// errFileFull says that a store's file is as long as one can be: a full disk, as it were.
var errFileFull = fmt.Errorf("file would be longer than %#x bytes: %w", int64(maxFileSize), unix.ENOSPC)

// nodeRoom is what a changed node of the index takes at most.
const nodeRoom = (frameHeadLen + fanout*entryLen + unit - 1) &^ (unit - 1)

// reserve makes sure that the disk has room for one more waiting frame, number n.
// The caller holds mu.
func (s *Store) reserve(n int64) error {
	if err := s.loadSpace(); err != nil {
		return err
	}
	if err := s.reserveLog(); err != nil {
		return err
	}
	return s.ensureFrame(n, 0)
}

// ensureFrame makes sure that there is room for one more waiting frame, number n, and for
// the nodes above it, spare bytes of which are held back for that. The caller holds mu.
func (s *Store) ensureFrame(n, spare int64) error {
	depth := max(s.idx.depth(), depthFor(n))
	err := s.ensure(s.need(1) + s.changing.fresh(n, depth)*nodeRoom - spare)
	if err == nil {
		s.changing.add(n, depth)
	}
	return err
}

// book is reserve for a frame that goes to the file without waiting; unbook ends
// that when the frame is there.
func (s *Store) book(n int64) error {
	err := s.reserve(n)
	if err == nil {
		s.booked++
	}
	return err
}

// unbook ends n bookings. It takes mu.
func (s *Store) unbook(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.booked -= n
}

// need is how many bytes it takes at most to commit what was accepted, more
// frames beside that, and to write a checkpoint.
func (s *Store) need(more int) int64 {
	waiting := int64(len(s.dirty) + len(s.frozen) + s.booked + more + spareFrames - s.spared)
	blocks := (waiting+int64(len(s.changed)+len(s.cleared)))/opsPerBlock + 1
	return waiting*s.frameRoom() + blocks*logBlockLen + s.changing.len()*nodeRoom + s.spareRoom() + s.pieceRoom()
}

// waits reports whether frames that were accepted are not in the file yet.
func (s *Store) waits() bool { return len(s.dirty)+len(s.frozen)+s.booked > 0 }

// owes reports whether anything that was accepted is still to be committed.
func (s *Store) owes() bool { return s.changes || s.waits() || len(s.changed)+len(s.cleared) > 0 }

// frameRoom is what a frame takes at most.
func (s *Store) frameRoom() int64 { return roundUp(int64(frameHeadLen+s.frameSize), unit) }

// pieceRoom is the longest piece that is ever taken at once. So much of a run of
// free bytes may be left over as too small for the next one.
func (s *Store) pieceRoom() int64 { return max(s.frameRoom(), nodeRoom, maxLogRun) }

// ensure makes sure that there is room for need bytes: behind the end, else also in
// gaps that have blocks.
func (s *Store) ensure(need int64) error {
	if s.covered(need) {
		s.tight = false
		return nil
	}
	end := s.space.end()
	// Each frame that is written moves end. What goes beyond need keeps the next of
	// them from reserving again.
	more := need + min(max(s.stored/16, need/4, minReserve)&^(unit-1), maxReserve)
	err := s.reserveEnd(end, more)
	if isNoSpace(err) {
		more = need
		err = s.reserveEnd(end, more)
	}
	switch {
	case err == nil:
		s.tight = false
	case isNoSpace(err) && s.holds(need):
		s.tight = true
	default:
		s.short = s.short || isNoSpace(err)
		return fmt.Errorf("reserve %d bytes: %w", more, err)
	}
	return nil
}

// reserveEnd reserves what is not yet reserved of n bytes from end on. It asks for
// nothing twice: tmpfs gives all of a range up that it can't reserve to the last byte.
func (s *Store) reserveEnd(end, n int64) error {
	if end > maxFileSize-n {
		return errFileFull
	}
	s.surplus = true // A part may be taken though it fails.
	for {
		part, punched := s.blocks.punched.first(span{end, min(end+n, s.reserved)})
		if !punched {
			break
		}
		if err := s.d.Reserve(part.from, part.to-part.from); err != nil {
			return err
		}
		s.blocks.punched.remove(part)
	}
	from, to := max(roundUp(end, blockLen), s.reserved), roundUp(end+n, blockLen)
	if from < to {
		if err := s.d.Reserve(from, to-from); err != nil {
			return err
		}
		s.blocks.punched.remove(span{from, to})
		s.reserved = to
	}
	return nil
}

// covered reports whether need bytes behind the end are reserved.
func (s *Store) covered(need int64) bool {
	end := s.space.end()
	_, punched := s.blocks.punched.first(span{end, end + need})
	return s.reserved-end >= need && !punched
}

// holds reports whether need bytes surely fit into the runs that have blocks,
// whatever the order in which they are taken.
func (s *Store) holds(need int64) bool {
	piece := s.pieceRoom()
	s.runs(piece, func(e extent) bool {
		need -= e.len - piece
		return need > 0
	})
	return need <= 0
}

// runs yields the runs of free bytes that have blocks, of at least least bytes, until
// yield returns false: the one behind the end, then those in gaps, about the longest
// first. yield may not use the allocator.
func (s *Store) runs(least int64, yield func(extent) bool) {
	more := true
	within := func(e extent) bool {
		s.blocks.punched.without(e.span(), func(r span) bool {
			more = r.to-r.from < least || yield(extent{r.from, r.to - r.from})
			return more
		})
		return more
	}
	if end := s.space.end(); s.reserved > end && !within(extent{end, s.reserved - end}) {
		return
	}
	s.space.longest(least, within)
}

// firstRun returns the first n bytes of a run that has blocks.
func (s *Store) firstRun(n int64) (e extent, found bool) {
	n = roundUp(n, unit)
	s.runs(n, func(run extent) bool {
		e, found = extent{run.off, n}, true
		return false
	})
	return e, found
}

// takeRun takes n bytes of a run that has blocks.
func (s *Store) takeRun(n int64) (e extent, ok bool) {
	e, found := s.firstRun(n)
	return e, found && s.space.claim(e) == nil
}

// putAgain writes b elsewhere after it could not be written at off because of err: on
// a full disk it takes room that is reserved. It returns where. The caller holds mu.
func (s *Store) putAgain(b []byte, off int64, err error) (int64, error) {
	s.lost(extent{off, int64(len(b))}, err)
	if !isNoSpace(err) {
		return 0, err
	}
	e := s.takeReserved(int64(len(b)))
	s.blocks.wrote(e)
	if _, err := s.d.WriteAt(b, e.off); err != nil {
		s.lost(e, err)
		return 0, err
	}
	return e.off, nil
}

// lost gives up e, which could not be written: its blocks may be missing.
func (s *Store) lost(e extent, err error) {
	if isNoSpace(err) {
		s.blocks.lost(e)
	}
	s.freeNow(e)
}

// reserveRecord makes sure that what is cut from a store of size plain bytes can be
// committed. One that fits into its first block has room there.
func (s *Store) reserveRecord(size int64) error {
	if s.small(size) {
		return nil
	}
	if err := s.loadSpace(); err != nil {
		return err
	}
	if err := s.reserveLog(); err != nil || s.logLasts() || s.changing.len() == 0 && len(s.cleared) < opsPerBlock {
		return err
	}
	return s.spareNodes(0)
}

// reserveLog makes sure that the places chosen for the log have blocks. One that may hold
// a record whose write failed is left alone: no log follows there, and zeros that only
// memory has would hide that record from the next writer.
func (s *Store) reserveLog() error {
	if s.logReserved || s.torn {
		return nil
	}
	places := []extent{{s.logNext, logBlockLen}, s.logRun}
	for _, e := range places {
		// A reservation that fails in a part of it could take that of its neighbour along.
		_, err := s.d.WriteAt(blank[:e.len], e.off)
		if isNoSpace(err) && !s.waits() {
			s.punchGaps(false, 0) // The disk may then have blocks for this place.
			_, err = s.d.WriteAt(blank[:e.len], e.off)
		}
		if err != nil {
			s.short = s.short || isNoSpace(err)
			return fmt.Errorf("reserve %d bytes: %w", e.len, err)
		}
		s.blocks.wrote(e)
	}
	s.logReserved = true
	return nil
}

// isNoSpace reports whether err says that the disk, or the user's share of it, is
// full.
func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
