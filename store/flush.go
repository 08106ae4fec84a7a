package store

// makeRoom compresses frames until no more wait than may. It does so in the caller,
// which slows writers down to what the codec can do.
func (s *Store) makeRoom() error { return s.flushTo(s.dirtyLimit) }

// flushBehind has half of what may wait compressed while the writer goes on. What
// fails is left to makeRoom or a commit, which try it again. The caller holds mu.
func (s *Store) flushBehind() {
	if s.flushing || s.dirtyBytes <= s.dirtyLimit/2 {
		return
	}
	s.flushing = true
	s.flusher.Go(func() {
		s.flushTo(s.dirtyLimit / 2)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flushing = false
	})
}

// flushTo compresses the frames that have waited longest until no more than limit
// bytes wait.
func (s *Store) flushTo(limit int64) error {
	for {
		n, d := s.oldestDirty(limit)
		if d == nil {
			return nil
		}
		if err := s.flushFrame(n, d); err != nil {
			return err
		}
	}
}

// oldestDirty takes the next frame to compress off the queue, nil when no more than
// limit bytes wait. The frame itself goes on waiting.
func (s *Store) oldestDirty(limit int64) (int64, *dirtyFrame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for left := len(s.queue); left > 0 && s.dirtyBytes > limit && !s.closed; left-- {
		n := s.queue[0]
		s.queue = s.queue[1:]
		switch d := s.dirty[n]; {
		case d == nil:
		case s.frozen[n] != nil: // An older form of it is on its way to the file.
			s.queue = append(s.queue, n)
		default:
			return n, d
		}
	}
	return 0, nil
}

// flushFrame puts the waiting frame d into the file.
func (s *Store) flushFrame(n int64, d *dirtyFrame) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.mu.Lock()
	if s.dirty[n] != d || s.frozen[n] != nil {
		s.mu.Unlock()
		return nil // A commit, Truncate or another writer was faster.
	}
	// A write that comes while the frame is compressed makes a new one of it.
	delete(s.dirty, n)
	s.frozen[n] = d
	plain := d.plain.b[:min(int64(s.frameSize), s.size-n<<s.shift)]
	s.mu.Unlock()
	err := s.putFrame(n, plain, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thaw(n, d, err)
	return err
}

// thaw ends the freezing of d, a form of frame n: it is in the file, or dropped, or,
// after an error, waits again. The caller holds mu.
func (s *Store) thaw(n int64, d *dirtyFrame, err error) {
	dropped := s.frozen[n] != d
	if dropped {
		s.booked--
	} else {
		delete(s.frozen, n)
	}
	if err != nil && !dropped && s.dirty[n] == nil {
		s.dirty[n] = d
		s.queue = append(s.queue, n)
		s.changes = true
		return
	}
	s.dirtyBytes -= int64(s.frameSize)
	putBuffer(d.plain)
}
