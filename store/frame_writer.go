package store

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// gatherBytes is the least room of a FrameWriter: a piece that the file system
// takes at little more cost than a single frame.
const gatherBytes = 256 << 10

// A FrameWriter replaces frames that a Sync is to make durable soon. It
// compresses them one by one and writes them together, which costs much less
// than to write each. Every goroutine needs one of its own; several of them use
// several cores.
//
// Until Flush some of the frames are as they were, and nobody else may write them.
type FrameWriter struct {
	s      *Store
	buf    *buffer // nil once it is closed
	used   int     // bytes of buf
	frames []gathered
	booked int // of them, that room is booked for

	whole int64 // so many frames lay within the store when it was last looked at
}

// A gathered frame lies compressed in a FrameWriter's buffer, behind the one before.
type gathered struct {
	number int64
	kind   kind
	plain  int    // bytes
	stored []byte // room for the header and the payload; none of kindZero
	entry  entry
}

// NewFrameWriter makes a FrameWriter; Close gives its memory back.
func (s *Store) NewFrameWriter() *FrameWriter {
	return &FrameWriter{s: s, buf: getBuffer(max(gatherBytes, s.encodeRoom()))}
}

// ExpectWrites does what the first write would do otherwise: it finds the free space
// by a walk over the index.
func (s *Store) ExpectWrites() error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	return s.loadSpace()
}

// encodeRoom is the room in which a frame is compressed.
func (s *Store) encodeRoom() int { return frameHeadLen + s.frameSize + unit }

// Add compresses p, which is FrameSize bytes long, or ends where the store ends
// if it is the last one, to replace frame n: what lies behind that is left out. After
// an error nothing is known of the frames that were added before.
func (w *FrameWriter) Add(n int64, p []byte) error {
	if w.buf == nil {
		return os.ErrClosed
	}
	if len(w.buf.b)-w.used < w.s.encodeRoom() {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	p, waits, err := w.accept(n, p)
	if waits || err != nil {
		return err
	}
	stored, k, err := w.s.compress(w.buf.b[w.used:w.used+w.s.encodeRoom()], p)
	if err != nil {
		return fmt.Errorf("compress frame %d: %w", n, err)
	}
	end := w.used + int(roundUp(int64(len(stored)), unit))
	clear(w.buf.b[w.used+len(stored) : end])
	w.used = end
	w.frames = append(w.frames, gathered{number: n, kind: k, plain: len(p), stored: stored})
	return nil
}

// accept returns what of p lies within the store, unless p waits in memory as frame 0.
func (w *FrameWriter) accept(n int64, p []byte) (within []byte, waits bool, err error) {
	s := w.s
	switch {
	case n > 0 && n < w.whole && len(p) == s.frameSize: // Without the lock, which others hold while they write.
		return p, false, nil
	case n > 0:
		s.mu.RLock()
		defer s.mu.RUnlock()
		w.whole = s.size >> s.shift
		within, err = s.within(n, p)
		return within, false, err
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if within, err = s.within(n, p); err == nil {
		waits, err = s.keepFrame(n, within)
	}
	return within, waits, err
}

// Flush writes what was added, for which it takes room: a full disk is an error of
// this, or of an Add that has to flush. After an error it is not known which of the
// frames are replaced.
func (w *FrameWriter) Flush() error {
	if len(w.frames) == 0 {
		return nil
	}
	defer w.forget()
	w.s.gate.RLock()
	defer w.s.gate.RUnlock()
	if err := w.place(); err != nil {
		return err
	}
	err := w.write()
	if isNoSpace(err) {
		err = w.writeEach()
	}
	return w.settle(err)
}

// place finds free space for the frames, most often one behind the other. The
// caller holds gate.
func (w *FrameWriter) place() error {
	gen, err := w.takeRoom()
	if err != nil {
		return err
	}
	for i := range w.frames { // Without the lock, which others wait for.
		if f := &w.frames[i]; f.kind != kindZero {
			sum := putFrameHead(f.stored, w.s.idSum, f.kind, f.number, gen)
			f.entry = newEntry(f.entry.off(), f.entry.payload(), f.kind, f.plain, sum)
		}
	}
	return nil
}

// takeRoom gives the frames entries, all but for the checksums, and returns the
// generation that will name them.
func (w *FrameWriter) takeRoom() (gen uint64, err error) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return 0, err
	}
	if err := s.loadSpace(); err != nil {
		return 0, err
	}
	for _, f := range w.frames {
		if left := s.plainOf(f.number); f.plain > left {
			return 0, fmt.Errorf("write frame %d with %d bytes, want at most %d", f.number, f.plain, left)
		}
		if err := s.book(f.number); err != nil {
			return 0, err
		}
		w.booked++
	}
	s.unsynced = true
	for i := range w.frames {
		f := &w.frames[i]
		if f.kind == kindZero {
			f.entry = zeroEntry
			continue
		}
		off := s.take(roundUp(int64(len(f.stored)), unit))
		f.entry = newEntry(off, len(f.stored)-frameHeadLen, f.kind, f.plain, 0)
	}
	return s.gen + 1, nil
}

// write writes the frames to their places, those side by side at once, and has
// the disk begin with them.
func (w *FrameWriter) write() error {
	var run extent
	from := 0 // where the bytes of run begin in the buffer
	for _, f := range w.frames {
		if f.kind == kindZero {
			continue
		}
		e := f.entry.extent()
		if run.len > 0 && e.off != run.end() {
			if err := w.writeRun(from, run); err != nil {
				return err
			}
			from, run = from+int(run.len), extent{}
		}
		if run.len == 0 {
			run.off = e.off
		}
		run.len += e.len
	}
	return w.writeRun(from, run)
}

// writeRun writes the bytes from offset from of the buffer on to e.
func (w *FrameWriter) writeRun(from int, e extent) error {
	if _, err := w.s.d.WriteAt(w.buf.b[from:from+int(e.len)], e.off); err != nil {
		return err
	}
	if w.s.f != nil && e.len >= gatherBytes/2 {
		// Where this fails the Sync does the work.
		_ = unix.SyncFileRange(int(w.s.f.Fd()), e.off, e.len, unix.SYNC_FILE_RANGE_WRITE)
	}
	return nil
}

// writeEach writes the frames one by one, those for which the disk has no blocks
// elsewhere. The caller holds gate.
func (w *FrameWriter) writeEach() error {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range w.frames {
		f := &w.frames[i]
		if f.kind == kindZero {
			continue
		}
		b := f.stored[:f.entry.extent().len]
		off := f.entry.off()
		_, err := s.d.WriteAt(b, off)
		if err != nil {
			off, err = s.putAgain(b, off, err)
		}
		if err != nil {
			f.entry = entry{} // Its place is given up.
			return err
		}
		f.entry = newEntry(off, f.entry.payload(), f.kind, f.plain, f.entry.sum())
	}
	return nil
}

// settle makes the frames those of the store, or gives their places back after
// an error. The caller holds gate.
func (w *FrameWriter) settle(err error) error {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range w.frames {
		if err == nil {
			err = s.replace(f.number, f.entry, true)
		}
		if err != nil && f.entry.onDisk() {
			s.lost(f.entry.extent(), err)
		}
	}
	return err
}

// forget ends the gathering of frames, those that are written and others.
func (w *FrameWriter) forget() {
	w.s.unbook(w.booked)
	w.used, w.frames, w.booked = 0, w.frames[:0], 0
}

// Close gives the memory back, and forgets what was not flushed.
func (w *FrameWriter) Close() {
	w.forget()
	if w.buf != nil {
		putBuffer(w.buf)
		w.buf = nil
	}
}
