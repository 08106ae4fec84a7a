package store

import (
	"errors"
	"fmt"
	"io"
	"os"

	"lazyfs/codec"
)

// maxGather bounds the stored bytes that one read of the file brings for
// neighbouring frames.
const maxGather = 256 << 10

// eagerFrame is the frame size, in bytes, above which a frame of which a part was
// read is cached at once. A smaller one is when a part is read again.
const eagerFrame = 64 << 10

// ReadAt reads plain bytes (io.ReaderAt). A frame that can't be read gives a
// *DamageError or the error of the file, and what lies before it is read.
func (s *Store) ReadAt(p []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, os.ErrClosed
	}
	if off < 0 {
		return 0, fmt.Errorf("read at %d: negative offset", off)
	}
	if off >= s.size {
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), s.size-off))
	n, err := s.readPlain(p[:want], off)
	if err == nil && want < len(p) {
		err = io.EOF
	}
	return n, err
}

// ReadFrame fills dst, FrameSize bytes long, with frame n; what lies past Size
// is zero. zero says that the whole frame is zeros; dst is left as it was then.
// The cache is not asked and not filled.
func (s *Store) ReadFrame(n int64, dst []byte) (zero bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.closed:
		return false, os.ErrClosed
	case n < 0 || n >= s.frameCount(s.size):
		return false, fmt.Errorf("read frame %d of %d: %w", n, s.frameCount(s.size), io.EOF)
	case len(dst) != s.frameSize:
		return false, fmt.Errorf("read frame %d: buffer is %d bytes, want %d", n, len(dst), s.frameSize)
	}
	_, zero, err = s.readSomeFrames(n, dst)
	return zero, err
}

// readPlain fills p, which lies within the store. The caller holds mu.
func (s *Store) readPlain(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := s.readSome(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readSome fills the beginning of p: the rest of one frame, or, where whole
// frames are wanted that lie side by side in the file, several.
func (s *Store) readSome(p []byte, off int64) (int, error) {
	n := s.frameOf(off)
	in := int(off & int64(s.frameSize-1))
	part := p[:min(len(p), s.frameSize-in)]
	if d := s.waiting(n); d != nil {
		return copy(part, d.plain.b[in:]), nil
	}
	e, err := s.entryOf(n)
	if err != nil {
		return 0, s.blame(err, n)
	}
	switch {
	case !e.onDisk() && e.kind() != kindInline:
		clear(part)
		return len(part), nil
	case s.cache.read(s.key(n, e), part, in):
		return len(part), nil
	case len(part) == s.frameSize && e.onDisk():
		return s.readRun(p, n, e)
	}
	return s.readPart(part, n, e, in)
}

// readPart reads a piece of a frame, by way of a buffer that the cache may copy. Of a
// frame that it does not, no more is decoded than needed.
func (s *Store) readPart(part []byte, n int64, e entry, in int) (int, error) {
	b := getBuffer(s.frameSize)
	defer putBuffer(b)
	key := s.key(n, e)
	if s.frameSize <= eagerFrame && !s.cache.again(key) {
		if err := s.decodeBeginning(n, e, b.b, in+len(part)); err != nil {
			return 0, err
		}
		return copy(part, b.b[in:]), nil
	}
	if err := s.decodeFrame(n, e, b.b); err != nil {
		return 0, err
	}
	s.cache.add(key, b.b)
	return copy(part, b.b[in:]), nil
}

// readRun decodes frame n and those behind it straight into p, as long as p
// wants them whole and they lie side by side in the file, and can be read. The error
// is that of frame n.
func (s *Store) readRun(p []byte, n int64, e entry) (int, error) {
	run := [maxGather / MinFrameSize]entry{e}
	count, stored := 1, e.extent().len
	for ; count < len(run) && (count+1)*s.frameSize <= len(p); count++ {
		next, err := s.entryOf(n + int64(count))
		if err != nil || !next.onDisk() || next.off() != e.off()+stored || s.waiting(n+int64(count)) != nil ||
			stored+next.extent().len > maxGather {
			break
		}
		run[count] = next
		stored += next.extent().len
	}
	b := getBuffer(int(stored))
	defer putBuffer(b)
	raw := b.b[:stored]
	if err := s.readStored(raw, n, e); err != nil {
		return 0, err
	}
	for i, e := range run[:count] {
		dst := p[i*s.frameSize : (i+1)*s.frameSize]
		if err := s.decode(dst, raw[:e.stored()], n+int64(i), e, s.frameSize); err != nil {
			if i > 0 {
				return i * s.frameSize, nil // The file may not have given it: the next read tells.
			}
			return 0, err
		}
		raw = raw[e.extent().len:]
	}
	return count * s.frameSize, nil
}

// decodeFrame fills dst, a whole frame, with frame n, which e names.
func (s *Store) decodeFrame(n int64, e entry, dst []byte) error {
	return s.decodeBeginning(n, e, dst, s.frameSize)
}

// decodeBeginning is decodeFrame, but behind the first need bytes dst may be anything.
func (s *Store) decodeBeginning(n int64, e entry, dst []byte, need int) error {
	if e.kind() == kindInline {
		at := newEntry(int64(s.slot)*slotLen+slotHeadLen, len(s.inline.data), s.inline.kind, s.inline.plain, 0)
		return s.decodePayload(dst, s.inline.data, n, at, need)
	}
	b := getBuffer(int(e.extent().len))
	defer putBuffer(b)
	raw := b.b[:e.extent().len]
	if err := s.readStored(raw, n, e); err != nil {
		return err
	}
	return s.decode(dst, raw[:e.stored()], n, e, need)
}

// readStored reads the file from the extent of e on, which holds frame n.
func (s *Store) readStored(raw []byte, n int64, e entry) error {
	if err := checkFrameEntry(e, n, s.frameSize, maxFileSize); err != nil {
		return s.blame(err, n)
	}
	// The rounding behind the last frame of a file may be missing.
	got, err := s.d.ReadAt(raw, e.off())
	if got < e.stored() {
		return s.blame(readError(err, framePart(e.kind(), n), e.off()), n)
	}
	clear(raw[got:])
	return nil
}

// decode verifies the stored bytes of frame n and decodes them into dst, at least as far
// as need.
func (s *Store) decode(dst, stored []byte, n int64, e entry, need int) error {
	if err := verifyFrame(stored, e, n, s.idSum); err != nil {
		return s.blame(err, n)
	}
	return s.decodePayload(dst, stored[frameHeadLen:], n, e, need)
}

// decodePayload decodes the payload of frame n, which e names, into dst, a whole frame, at
// least as far as need. Behind its plain bytes dst is zero.
func (s *Store) decodePayload(dst, payload []byte, n int64, e entry, need int) error {
	plain := e.plain()
	need = min(need, plain)
	got, err := decoders[e.kind()].DecodePart(dst[:plain], payload, need)
	switch {
	case err != nil:
		return s.blame(e.damagef(n, "payload of %d bytes: %v", len(payload), err), n)
	case got != plain && got != need:
		return s.blame(e.damagef(n, "payload decodes to %d bytes, want %d", got, plain), n)
	}
	clear(dst[plain:])
	return nil
}

// decoders are the codecs by kind. Decoding needs no level.
var decoders = func() (all [kindGzip + 1]codec.Codec) {
	for id := codec.Raw; id <= codec.Gzip; id++ {
		c, err := codec.New(id, 0)
		if err != nil {
			panic(err) // Every codec has a default level.
		}
		all[id] = c
	}
	return all
}()

// entryOf returns the entry of frame n. The caller holds mu.
func (s *Store) entryOf(n int64) (entry, error) {
	if n == 0 && s.inline.data != nil {
		return entry{place: s.inline.version, info: uint64(kindInline) << 32}, nil
	}
	return s.idx.lookup(n)
}

// readNode reads and verifies an index node.
func (s *Store) readNode(e entry, first int64) ([]byte, error) {
	size, err := s.d.Size()
	if err != nil {
		return nil, err
	}
	if damage := checkPlace(e, "index", e.off(), size+unit); damage != nil {
		return nil, damage
	}
	b := make([]byte, e.stored())
	if _, err := s.d.ReadAt(b, e.off()); err != nil {
		return nil, readError(err, "index", e.off())
	}
	if err := verifyFrame(b, e, first, s.idSum); err != nil {
		return nil, err
	}
	return b[frameHeadLen:], nil
}

// checkFrameEntry checks what an entry says of frame n before it is believed.
func checkFrameEntry(e entry, n int64, frameSize int, end int64) error {
	switch k := e.kind(); {
	case k == kindHole && e == (entry{}), k == kindZero && e == zeroEntry:
		return nil
	case !k.isFrame():
		return damagef(framePart(k, n), 0, "kind is %d, which is not a frame's", uint8(k))
	case e.plain() > frameSize || e.payload() > frameSize:
		return e.damagef(n, "%d bytes hold %d plain ones, frames are %d", e.payload(), e.plain(), frameSize)
	}
	if err := checkPlace(e, "", e.off(), end+unit); err != nil {
		err.Part = framePart(e.kind(), n)
		return err
	}
	return nil
}

// damagef is damage of frame n, or of a node, which e names.
func (e entry) damagef(n int64, format string, args ...any) *DamageError {
	return damagef(framePart(e.kind(), n), e.off(), format, args...)
}

func framePart(k kind, n int64) string {
	if k >= kindNode {
		return "index"
	}
	return fmt.Sprintf("frame %d", n)
}

// readError turns a read past the end of the file into damage.
func readError(err error, part string, off int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || err == nil {
		return damagef(part, off, "file ends before it")
	}
	return fmt.Errorf("read %s at offset %#x: %w", part, off, err)
}

func (s *Store) key(n int64, e entry) cacheKey {
	return cacheKey{store: s.number, frame: n, place: e.place, sum: e.sum()}
}
