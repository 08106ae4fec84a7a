package store

// spaceUsed lists everything that may not be handed out: it fails when two of
// them share bytes, or one lies in free space.
func (s *Store) spaceFault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.space == nil {
		return nil
	}
	used := s.doomed()
	for _, l := range s.limbo {
		used = append(used, l.extent)
	}
	s.idx.scan(0, maxFrameNumber+1, func(_ int64, e entry) bool {
		if e.onDisk() {
			used = append(used, e.extent())
		}
		return true
	})
	s.idx.nodes(func(_ int64, e entry) error {
		used = append(used, e.extent())
		return nil
	})
	s.space.holes(1, func(e extent) bool {
		used = append(used, e)
		return true
	})
	_, err := newAllocator(dataStart, used)
	return err
}
