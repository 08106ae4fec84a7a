package store

import (
	"fmt"
	"maps"
	"slices"
)

// Commit makes everything written one new generation, without waiting for the
// disk: it survives the death of this process, not a power cut. Writes that go
// on meanwhile belong to the next one.
func (s *Store) Commit() error {
	s.gate.Lock()
	defer s.gate.Unlock()
	return s.commit(false)
}

// Sync is Commit and waits until the generation survives a power cut. When it
// fails for want of space everything is kept and it may be called again. After a
// failed fdatasync nobody knows what the disk holds: every later call fails, too.
func (s *Store) Sync() error {
	s.gate.Lock()
	defer s.gate.Unlock()
	return s.commit(true)
}

// commit writes a commit record, or a checkpoint where one is due. The caller
// holds gate alone.
func (s *Store) commit(wait bool) error {
	state, err := s.freeze()
	if err != nil {
		return err
	}
	if err := s.flushFrozen(state); err != nil {
		s.markChanged()
		return err
	}
	if state.changes {
		err = s.commitChanges(wait, state.size)
	} else if wait {
		err = s.datasync()
	}
	if err == nil && wait && s.logTakesRoom() {
		err = s.checkpoint(true, state.size)
		if isNoSpace(err) && s.failed == nil {
			err = nil // All is committed without it.
		}
	}
	return err
}

// commitChanges is commit for what was frozen and flushed.
func (s *Store) commitChanges(wait bool, size int64) (err error) {
	switch {
	case s.torn || s.logIsFull() || s.inline.data != nil || s.sb.inline != nil || size == 0 || s.small(size):
		// Where all lies in the superblock, or nothing is left, this needs no room.
		err = s.checkpoint(wait, size)
	case s.checkpointHelps():
		err = s.checkpoint(wait, size)
		if isNoSpace(err) && !s.torn && s.failed == nil {
			err = s.appendLog(wait, size)
		}
	default:
		err = s.appendLog(wait, size)
	}
	if err != nil {
		s.markChanged()
	}
	return err
}

// small reports whether a store of size plain bytes fits into its first block.
func (s *Store) small(size int64) bool { return size <= inlineMax && s.idx.root == nil }

func (s *Store) markChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = true
}

// A frozenState is what one commit is to hold.
type frozenState struct {
	size    int64
	changes bool
	frames  []int64 // those that wait in memory, in order
}

// freeze takes the state of this instant: what is written from now on belongs to
// the next commit.
func (s *Store) freeze() (frozenState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return frozenState{}, err
	}
	if s.inline.data != nil && s.size > int64(s.frameSize) {
		// Frame 0 no longer fits into the superblock's store.
		if _, err := s.dirtyFrame(0, false); err != nil {
			return frozenState{}, err
		}
	}
	state := frozenState{s.size, s.changes, slices.Sorted(maps.Keys(s.dirty))}
	s.frozen, s.dirty = s.dirty, s.frozen
	s.queue = s.queue[:0]
	s.changes = false
	return state, nil
}

// logIsFull reports whether the commit at hand would make the log too long, or could be
// followed by no checkpoint, since it makes the last generation.
func (s *Store) logIsFull() bool {
	s.mu.RLock() // Writers note leaves meanwhile.
	defer s.mu.RUnlock()
	ops := len(s.changed) + len(s.cleared)
	return len(s.logBlocks)+ops/opsPerBlock+1 > maxLogBlocks || len(s.changing.leaves) > maxLogLeaves ||
		s.gen+1 >= maxGeneration
}

// appendLog writes the changes as a commit record.
func (s *Store) appendLog(wait bool, size int64) error {
	s.mu.Lock()
	at, seed := s.logNext, s.logSeed
	blocks, places, err := s.logRecord(size)
	if err == nil {
		// Writers may make the next place ready from now on, but not touch this one.
		last := blocks[len(blocks)-1]
		s.logNext, s.logSeed = last.next, last.nextSeed
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if whole, err := s.writeLog(blocks, places); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if whole {
			s.mayBe(blocks[0].gen)
		}
		for _, l := range blocks { // The room that was taken for those that follow.
			s.freeNow(extent{l.next, logBlockLen})
		}
		s.logNext, s.logSeed, s.logReserved = at, seed, false
		return err
	}
	s.mu.Lock()
	s.logBlocks = append(s.logBlocks, places...)
	s.committed()
	s.ahead = aheadBytes
	s.mu.Unlock()
	if wait {
		return s.datasync()
	}
	return nil
}

// writeLog writes a commit record. After an error whole says that all of it may be
// there: a failed write may have been done, and what a short one left out may be zeros.
func (s *Store) writeLog(blocks []logBlock, places []int64) (whole bool, err error) {
	var b [logBlockLen]byte
	for i := range blocks {
		blocks[i].encode(b[:], s.idSum)
		if n, err := s.d.WriteAt(b[:], places[i]); err != nil {
			return blocks[i].end && !undone(n, err), fmt.Errorf("write log: %w", err)
		}
	}
	return true, nil
}

// undone says that a write which wrote n bytes and failed with err has changed nothing.
func undone(n int, err error) bool { return n == 0 && isNoSpace(err) }

// mayBe notes that generation gen may be on disk though its write failed. Its number
// is not used again, what it names is kept until a whole superblock follows, which the
// next commit writes, and no log does before. The caller holds mu.
func (s *Store) mayBe(gen uint64) {
	s.torn, s.gen, s.cleared = true, gen, nil
	s.changes = true // The write may have torn the only superblock that has the last commit.
	clear(s.changed)
}

// committed makes the changes generation gen+1. The caller holds mu.
func (s *Store) committed() {
	s.gen++
	s.spared = 0
	s.cleared = nil
	if s.changed != nil {
		clear(s.changed)
	}
}

// logRecord makes the log blocks of the changes, and finds a place for each. The
// caller holds mu.
func (s *Store) logRecord(size int64) ([]logBlock, []int64, error) {
	if s.gen == maxGeneration {
		return nil, nil, errLastGeneration
	}
	ops, err := s.logOps()
	if err != nil {
		return nil, nil, err
	}
	if err := s.loadSpace(); err != nil {
		return nil, nil, err
	}
	var blocks []logBlock
	var places []int64
	at, seed := s.logNext, s.logSeed
	for {
		n := min(len(ops), opsPerBlock)
		l := logBlock{seed: seed, gen: s.gen + 1, next: s.logPlace(), nextSeed: newSeed(),
			size: size, durable: s.durable, end: n == len(ops), ops: ops[:n]}
		blocks, places = append(blocks, l), append(places, at)
		if l.end {
			return blocks, places, nil
		}
		at, seed, ops = l.next, l.nextSeed, ops[n:]
	}
}

// maxLogRun bounds the room for the log that is taken at a time, so that its
// blocks lie one behind the other. All of it must have blocks, so it is also bounded
// by what may be written for that.
const maxLogRun = 8 * logBlockLen

// logPlace returns room for a log block.
func (s *Store) logPlace() int64 {
	if s.logRun.len == 0 {
		run := max(min(s.stored/64, s.ahead, maxLogRun)&^(logBlockLen-1), logBlockLen)
		off, err := s.takeWritten(run)
		s.logRun, s.logReserved = extent{off, run}, err == nil
		s.short = s.short || err != nil
	}
	at := s.logRun.off
	s.logRun.off += logBlockLen
	s.logRun.len -= logBlockLen
	return at
}

// logOps lists the changes: what became a hole first, then what was set.
func (s *Store) logOps() ([]logOp, error) {
	ops := make([]logOp, 0, len(s.cleared)+len(s.changed))
	for _, r := range s.cleared {
		ops = append(ops, logOp{opClear, r.from, entry{place: uint64(r.to - r.from)}})
	}
	for _, n := range slices.Sorted(maps.Keys(s.changed)) {
		e, err := s.idx.lookup(n)
		if err != nil {
			return nil, err
		}
		ops = append(ops, logOp{opSet, n, e})
	}
	return ops, nil
}

// datasync waits until generation gen survives a power cut. The caller holds
// gate alone.
func (s *Store) datasync() error {
	s.mu.RLock()
	gen, done, failed := s.gen, s.durable == s.gen && !s.unsynced, s.failed
	s.mu.RUnlock()
	if done || failed != nil {
		return failed
	}
	err := s.d.Datasync()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed = fmt.Errorf("an earlier write was lost: %w", err)
		return err
	}
	s.unsynced = false
	if s.torn {
		return nil // No generation is durable but by a whole superblock.
	}
	s.durable, s.slotDurable = gen, true
	s.reclaim()
	s.punchFree(false)
	return nil
}
