package store

import (
	"cmp"
	"slices"
)

// readDurable is readState for a writer, which may go on only from what survives
// a power cut. Where the store was not closed it makes what an earlier writer wrote
// durable, and reads again what it relies on: when that writer's fdatasync failed,
// the kernel shows bytes that the disk does not have, and a later fdatasync says
// nothing about them.
func (s *Store) readDurable() ([]commit, error) {
	commits, err := s.readWith(scanLog)
	if err != nil || s.twins && len(commits) == 0 {
		return commits, err
	}
	if err := s.d.Datasync(); err != nil {
		return nil, err
	}
	s.d.Forget(0, dataStart)
	if err := s.forgetLog(); err != nil {
		return nil, err
	}
	commits, err = s.readOnce()
	s.slotDurable = true
	return commits, err
}

// forgetLog has the log, its end included, and all frames that it names read from the
// disk. There it may go on otherwise than in memory, and name others.
func (s *Store) forgetLog() error {
	for known := []extent(nil); ; {
		commits, err := s.readWith(scanLog)
		if err != nil {
			return err
		}
		end := s.sb.logOff
		if n := len(commits); n > 0 {
			end = commits[n-1].next
		}
		named := namedBy(append(commits, commit{blocks: []int64{end}}))
		if slices.Equal(named, known) {
			return nil
		}
		for _, e := range named {
			s.d.Forget(e.off, e.len)
		}
		known = named
	}
}

// namedBy is where the commits and the frames that they name lie: whole blocks, in
// order, as few extents as there can be.
func namedBy(commits []commit) []extent {
	var all []extent
	for _, c := range commits {
		for _, off := range c.blocks {
			all = append(all, extent{off, logBlockLen})
		}
		for _, op := range c.ops {
			if op.code == opSet && op.arg.onDisk() {
				all = append(all, op.arg.extent())
			}
		}
	}
	slices.SortFunc(all, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
	joined := all[:0]
	for _, e := range all {
		r := e.touched()
		if last := len(joined) - 1; last >= 0 && r.from <= joined[last].end() {
			joined[last].len = max(joined[last].len, r.to-joined[last].off)
		} else {
			joined = append(joined, extent{r.from, r.to - r.from})
		}
	}
	return joined
}
