package store

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Space is reserved when a write is accepted, behind the end of the file: a full
// disk is an error of that write, not of the Sync that would have to keep it.

// Bounds of what is reserved at a time, in bytes.
const (
	minReserve = 64 << 10
	maxReserve = 16 << 20
	// spareRoom and spareFrames frames are held back for what is no write, so that a
	// store on a full disk can be cut, punched and closed: the upper nodes of an
	// index, a few log blocks, and frames of which a part is blanked.
	spareRoom   = 64 << 10
	spareFrames = 4
)

// nodeRoom is what a changed leaf takes at most.
const nodeRoom = frameHeadLen + fanout*entryLen

// reserve makes sure that the disk has room for one more waiting frame, number n.
// The caller holds mu.
func (s *Store) reserve(n int64) error {
	if err := s.loadSpace(); err != nil {
		return err
	}
	s.leaves[n>>fanoutBits] = struct{}{}
	waiting := int64(len(s.dirty) + len(s.frozen) + 1 + spareFrames - s.spared)
	blocks := (waiting+int64(len(s.changed)))/opsPerBlock + 1
	need := waiting*roundUp(int64(frameHeadLen+s.frameSize), unit) + blocks*logBlockLen +
		int64(len(s.leaves))*nodeRoom + spareRoom
	if err := s.reserveLog(); err != nil {
		return err
	}
	end := s.space.end()
	if s.reserved-end >= need {
		return nil
	}
	more := max(need, min(max(s.stored/16, minReserve), maxReserve))
	err := s.d.Reserve(end, more)
	if isNoSpace(err) && more > need {
		more = need
		err = s.d.Reserve(end, more)
	}
	switch {
	case err == nil:
		s.reserved = end + more
	case isNoSpace(err) && s.unpunched/2 >= need:
		// What was freed and kept is room, too; half of it, since it is in pieces.
	default:
		return fmt.Errorf("reserve %d bytes: %w", more, err)
	}
	return nil
}

// spare reserves room for frame n, which is to be blanked in part, or takes of
// what is held back.
func (s *Store) spare(n int64) error {
	err := s.reserve(n)
	if err == nil || !isNoSpace(err) || s.spared == spareFrames {
		return err
	}
	s.spared++
	return nil
}

// reserveLog makes sure that the places chosen for the log have blocks.
func (s *Store) reserveLog() error {
	if s.logReserved {
		return nil
	}
	places := []extent{{s.logNext, logBlockLen}, s.logRun}
	for _, e := range places {
		if e.len == 0 {
			continue
		}
		if err := s.d.Reserve(e.off, e.len); err != nil {
			return fmt.Errorf("reserve %d bytes: %w", e.len, err)
		}
	}
	s.logReserved = true
	return nil
}

// isNoSpace reports whether err says that the disk, or the user's share of it, is
// full.
func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
