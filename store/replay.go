package store

import (
	"fmt"
	"io"
)

// replay makes the commits of the log part of the state in memory.
func (s *Store) replay(commits []commit) error {
	if len(commits) == 0 {
		return nil
	}
	s.inline = inlineFrame{} // A log follows only where frame 0 lies outside.
	var err error
	cleared, set := netOps(commits)
	cleared.spans(func(r span) bool {
		err = s.replayClear(r)
		return err == nil
	})
	for i := 0; i < len(set) && err == nil; i++ {
		var old entry
		old, err = s.idx.set(set[i].frame, set[i].arg)
		s.count(old, -1)
		s.count(set[i].arg, +1)
		if s.writable {
			s.changing.add(set[i].frame, s.idx.depth())
		}
	}
	for _, c := range commits {
		s.logBlocks = append(s.logBlocks, c.blocks...)
	}
	last := commits[len(commits)-1]
	s.size, s.gen = last.size, last.gen
	s.logNext, s.logSeed = last.next, last.seed
	return err
}

// replayClear makes the frames of r holes, as the log says.
func (s *Store) replayClear(r span) error {
	if s.writable {
		found, err := s.idx.occupied(r)
		if err != nil || found.from >= found.to {
			return err
		}
		for _, p := range s.changing.freshEdges(r, found, s.idx.depth()) {
			s.changing.put(p)
		}
	}
	_, err := s.idx.clear(r, func(_ int64, old entry) { s.count(old, -1) }, s.dropNode)
	return err
}

// startLog makes a new log if commits were found in that of the superblock. Where a
// full disk has no room for that, and where nothing was found, that log goes on.
func (s *Store) startLog(found bool) error {
	if found {
		s.mu.Lock()
		err := s.loadSpace()
		room := err == nil && s.roomForIndex()
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if room {
			err := s.checkpoint(true, s.size)
			if !isNoSpace(err) || s.torn || s.failed != nil {
				return err
			}
		}
		s.short = true
	}
	return s.wipeBegun()
}

// wipeBegun overwrites the beginning of a commit that an earlier writer did not end:
// frames written from now on must never make it whole.
func (s *Store) wipeBegun() error {
	b := getBuffer(logBlockLen)
	defer putBuffer(b)
	if n, err := s.d.ReadAt(b.b, s.logNext); n < len(b.b) {
		if err == io.EOF {
			return nil
		}
		return readError(err, "log", s.logNext)
	}
	if _, begun := decodeLogBlock(b.b, s.logSeed, s.idSum); !begun {
		return nil
	}
	if _, err := s.d.WriteAt(blank[:logBlockLen], s.logNext); err != nil {
		return fmt.Errorf("wipe log: %w", err)
	}
	s.unsynced = true
	return s.datasync()
}
