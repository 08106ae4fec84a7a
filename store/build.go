package store

import (
	"hash/crc32"
	"os"

	"golang.org/x/sys/unix"
)

// A builder fills a new store from its beginning to its end, without the
// bookkeeping that a change of an existing one needs: nothing is committed until
// all is there, and memory does not grow with the number of frames.
type builder struct {
	s      *Store
	leaf   int64 // of the index, which got the last frame
	leaves int   // that got frames since the index was last written

	rest  []byte // what was appended and is not written
	at    int64  // where rest belongs
	begun int64  // the disk was told to write what lies before it
}

// leavesPerFlush is to how many leaves a builder adds frames before it writes the index.
const leavesPerFlush = 64

// buildPiece is how many bytes a builder writes at a time, up to the next multiple of
// it in the file. A page cache that keeps such pieces whole takes them at three fifths
// of the price of as long ones that begin anywhere (ext4, Linux 6.18: 32 and 53 ms for
// 123 MiB).
const buildPiece = 256 << 10

// writeBehind is how many bytes a builder lets wait before it tells the disk to
// write them, so that little is left to wait for in the end.
const writeBehind = 8 << 20

// newBuilder makes a store in the empty file f, which stays the caller's.
func newBuilder(f *os.File, sb *superblock) (*builder, error) {
	if err := lockWriter(f); err != nil {
		return nil, err
	}
	return buildOn(fileDisk{f}, f, sb)
}

// buildOn makes the store on d, whose file is f if it is one. There is no
// superblock before finish: nobody takes a part of a store for a whole one.
func buildOn(d disk, f *os.File, sb *superblock) (*builder, error) {
	s := newStore(d, f)
	s.writable, s.borrowed = true, f != nil
	s.sb, s.idSum = *sb, crc32.Update(0, castagnoli, sb.id[:])
	s.changed = nil
	if err := s.setUp(Options{}); err != nil {
		return nil, err
	}
	return &builder{s: s, leaf: -1}, s.loadSpace()
}

// copyBatch is the number of stored bytes that Copy and Repair move at a time.
const copyBatch = 1 << 20

// A batch is frames one behind the other in their stored form.
type batch struct {
	stored []byte       // extents of the frames on disk, each rounded up to units
	frames []frameEntry // their offsets count from the beginning of stored
}

// addZero appends frame n, which is zeros, to the batch.
func (t *batch) addZero(n int64) { t.frames = append(t.frames, frameEntry{n, zeroEntry}) }

// add appends the stored form of frame n, b, whose header is filled in already, to the
// batch.
func (t *batch) add(n int64, b []byte, k kind, plain int, sum uint32) {
	e := newEntry(int64(len(t.stored)), len(b)-frameHeadLen, k, plain, sum)
	t.frames = append(t.frames, frameEntry{n, e})
	t.stored = append(t.stored, b...)
	for len(t.stored)%unit != 0 {
		t.stored = append(t.stored, 0)
	}
}

// full reports whether it is time to hand the batch to a builder.
func (t *batch) full() bool { return len(t.stored) >= copyBatch || len(t.frames) >= fanout }

// clear empties the batch and keeps its memory.
func (t *batch) clear() { t.stored, t.frames = t.stored[:0], t.frames[:0] }

// append adds a batch.
func (w *builder) append(t *batch) error {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.loadSpace(); err != nil {
		return err
	}
	var base int64
	if len(t.stored) > 0 {
		base = s.take(int64(len(t.stored)))
		s.unsynced = true
		if err := w.write(t.stored, base); err != nil {
			return err
		}
	}
	for _, f := range t.frames {
		e := f.entry
		if e.onDisk() {
			e.place += uint64(base/unit) << 20
		}
		if err := w.enter(f.number >> fanoutBits); err != nil {
			return err
		}
		if err := s.setEntry(f.number, e); err != nil {
			return err
		}
	}
	return nil
}

// enter has the index written before one leaf too many gets frames. The caller holds mu.
func (w *builder) enter(leaf int64) error {
	if leaf == w.leaf {
		return nil
	}
	w.leaf = leaf
	if w.leaves++; w.leaves <= leavesPerFlush {
		return nil
	}
	w.leaves = 1
	return w.s.idx.flush(w.s.writeNode, w.s.dropNode)
}

// write writes b to off, but for a rest that waits for what comes behind it. The caller
// holds mu.
func (w *builder) write(b []byte, off int64) error {
	if off != w.at+int64(len(w.rest)) {
		if err := w.writeRest(); err != nil {
			return err
		}
		w.at = off
	}
	for len(b) > 0 {
		piece := int(buildPiece - w.at%buildPiece)
		n := min(len(b), piece-len(w.rest))
		w.rest = append(w.rest, b[:n]...)
		b = b[n:]
		if len(w.rest) < piece {
			continue
		}
		if err := w.writeRest(); err != nil {
			return err
		}
		w.writeOut()
	}
	return nil
}

// writeRest writes what waits. The caller holds mu.
func (w *builder) writeRest() error {
	if len(w.rest) == 0 {
		return nil
	}
	if _, err := w.s.d.WriteAt(w.rest, w.at); err != nil {
		return err
	}
	w.at += int64(len(w.rest))
	w.rest = w.rest[:0]
	return nil
}

// writeOut has the disk begin with what was written, and prepare for as much: blocks that
// it knows of are cheaper to write to. The caller holds mu.
func (w *builder) writeOut() {
	if w.s.f == nil || w.at-w.begun < writeBehind {
		return
	}
	// Where these fail the next writes and the last fdatasync do the work.
	_ = unix.SyncFileRange(int(w.s.f.Fd()), w.begun, w.at-w.begun, unix.SYNC_FILE_RANGE_WRITE)
	_ = w.s.reserveEnd(w.at, writeBehind)
	w.begun = w.at
}

// finish makes the store, of size plain bytes, durable and closes it. There is none
// when it fails.
func (w *builder) finish(size int64) (Info, error) {
	info, err := w.complete(size)
	if err != nil {
		// A superblock may be there already. Where this fails, too, it stays.
		_, _ = w.s.d.WriteAt(make([]byte, dataStart), 0)
	}
	return info, firstError(err, w.s.Discard())
}

func (w *builder) complete(size int64) (Info, error) {
	s := w.s
	s.size = size
	s.mu.Lock()
	err := w.writeRest()
	s.mu.Unlock()
	if err != nil {
		return Info{}, err
	}
	if err := s.checkpoint(true, size); err != nil {
		return Info{}, err
	}
	s.changed, s.changes = map[int64]struct{}{}, false
	if err := s.finish(); err != nil {
		return Info{}, err
	}
	if s.f != nil { // The file's attributes are to last, too.
		if err := s.f.Sync(); err != nil {
			return Info{}, err
		}
	}
	return s.Info()
}
