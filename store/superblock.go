package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"lazyfs/codec"
)

// magic is the first eight bytes of every store. The carriage return and line
// feed show damage by text conversion, as PNG's do.
const magic = "LAZYFS\r\n"

const formatVersion = 1

// Features that this package knows, by mask (FORMAT §2). A reader refuses a
// store with an unknown incompatible feature, a writer also one with an unknown
// read-only compatible feature.
const (
	knownIncompat = 0
	knownROCompat = 0
)

// slotFlagCopy is set in a slot that was written as a copy of the other.
const slotFlagCopy = 1

// A superblock describes one generation of a store (FORMAT §2).
type superblock struct {
	incompat, roCompat, compat uint64

	id         [16]byte
	gen        uint64
	size       int64 // plain bytes
	frameShift uint8
	codec      codec.ID
	level      int8
	depth      uint8 // levels of the index, 0 when it has none
	root       entry
	logOff     int64  // where the first log block of later commits will be
	logSeed    uint64 // and what it must begin with
	end        int64  // first byte behind everything that this generation uses
	frames     int64  // frames that are neither hole nor zero
	stored     int64  // bytes of their extents

	inline      []byte // payload of frame 0, nil when it does not lie here
	inlineKind  kind
	inlinePlain int // plain length of it, in bytes

	copied bool // written as a copy of the other slot, which was durable by then
}

func (s *superblock) frameSize() int { return 1 << s.frameShift }

// mayHaveLog reports whether a file of size bytes has room for the first log block.
func (s *superblock) mayHaveLog(size int64) bool { return s.logOff+logBlockLen <= size }

// encode writes the superblock into b, slotLen bytes long.
func (s *superblock) encode(b []byte) {
	clear(b)
	le := binary.LittleEndian
	copy(b, magic)
	le.PutUint32(b[8:], formatVersion)
	le.PutUint64(b[16:], s.incompat)
	le.PutUint64(b[24:], s.roCompat)
	le.PutUint64(b[32:], s.compat)
	copy(b[40:56], s.id[:])
	le.PutUint64(b[56:], s.gen)
	le.PutUint64(b[64:], uint64(s.size))
	b[72], b[73], b[74], b[75] = s.frameShift, byte(s.codec), byte(s.level), s.depth
	b[76] = byte(s.inlineKind)
	if s.copied {
		b[77] = slotFlagCopy
	}
	le.PutUint16(b[78:], uint16(len(s.inline)))
	putEntry(b[80:], s.root)
	le.PutUint64(b[96:], uint64(s.logOff))
	le.PutUint64(b[104:], s.logSeed)
	le.PutUint64(b[112:], uint64(s.end))
	le.PutUint64(b[120:], uint64(s.frames))
	le.PutUint64(b[128:], uint64(s.stored))
	le.PutUint32(b[136:], uint32(s.inlinePlain))
	copy(b[slotHeadLen:], s.inline)
	le.PutUint32(b[12:], slotSum(b))
}

// slotSum is the checksum of a slot, its own field taken as zero.
func slotSum(b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, b[:12])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	return crc32.Update(sum, castagnoli, b[16:])
}

// decodeSuperblock decodes and checks the slot b, which lies at off in a file of
// size bytes (FORMAT §2). It checks every field, so no other code tests a
// superblock. ErrNotStore: no magic; ErrVersion: newer; else damage. Inline data is
// not copied out of b.
func decodeSuperblock(b []byte, off, fileSize int64) (superblock, error) {
	le := binary.LittleEndian
	if !bytes.Equal(b[:8], []byte(magic)) {
		return superblock{}, ErrNotStore
	}
	if sum := slotSum(b); sum != le.Uint32(b[12:]) {
		return superblock{}, damagef("superblock", off, "checksum is %#08x, want %#08x", sum, le.Uint32(b[12:]))
	}
	if v := le.Uint32(b[8:]); v != formatVersion {
		return superblock{}, fmt.Errorf("%w: format version %d, this one knows %d", ErrVersion, v, formatVersion)
	}
	s := superblock{
		incompat: le.Uint64(b[16:]), roCompat: le.Uint64(b[24:]), compat: le.Uint64(b[32:]),
		gen: le.Uint64(b[56:]), size: int64(le.Uint64(b[64:])),
		frameShift: b[72], codec: codec.ID(b[73]), level: int8(b[74]), depth: b[75],
		inlineKind: kind(b[76]), copied: b[77]&slotFlagCopy != 0, inlinePlain: int(le.Uint32(b[136:])),
		root: getEntry(b[80:]), logOff: int64(le.Uint64(b[96:])), logSeed: le.Uint64(b[104:]),
		end: int64(le.Uint64(b[112:])), frames: int64(le.Uint64(b[120:])), stored: int64(le.Uint64(b[128:])),
	}
	copy(s.id[:], b[40:56])
	if u := s.incompat &^ knownIncompat; u != 0 {
		return superblock{}, fmt.Errorf("%w: incompatible feature bit %d is not known", ErrVersion, bits.TrailingZeros64(u))
	}
	if err := s.check(off, fileSize); err != nil {
		return superblock{}, err
	}
	return s, s.takeInline(b, off)
}

func (s *superblock) check(off, fileSize int64) error {
	size := 1 << (s.frameShift & 31)
	switch {
	case s.frameShift > 31 || size < MinFrameSize || size > MaxFrameSize:
		return damagef("superblock", off+72, "frame size is 2^%d bytes, want 2^12 to 2^20", s.frameShift)
	case s.gen > maxGeneration:
		return damagef("superblock", off+56, "generation is %#x, limit is %#x", s.gen, uint64(maxGeneration))
	case s.size < 0 || s.size > MaxSize:
		return damagef("superblock", off+64, "plain size is %#x, limit is %#x", uint64(s.size), int64(MaxSize))
	case !kind(s.codec).isFrame():
		return damagef("superblock", off+73, "codec is %d, want 1 to 4", s.codec)
	case s.frames < 0 || s.stored < 0:
		return damagef("superblock", off+120, "counts %d frames of %d bytes", s.frames, s.stored)
	case s.end < dataStart || s.end > fileSize:
		return damagef("superblock", off+112, "store ends at %#x, file is %#x bytes", uint64(s.end), fileSize)
	case s.logOff < dataStart || s.logOff > maxFileSize || s.logOff%unit != 0:
		return damagef("superblock", off+96, "log is at %#x, want a multiple of 8 from %#x", uint64(s.logOff), dataStart)
	case s.depth > maxDepth || (s.depth == 0) != (s.root == entry{}):
		return damagef("superblock", off+75, "index has %d levels and root %#x, limit is %d", s.depth, s.root.place, maxDepth)
	case s.depth > 0 && s.root.kind() != kindNode+kind(s.depth-1):
		return damagef("superblock", off+80, "root is of kind %#x, want %#x", s.root.kind(), kindNode+kind(s.depth-1))
	}
	if _, err := codec.New(s.codec, int(s.level)); err != nil {
		return damagef("superblock", off+74, "%v", err)
	}
	if s.depth > 0 {
		if damage := checkPlace(s.root, "superblock", off+80, s.end); damage != nil {
			return damage
		}
	}
	return nil
}

func (s *superblock) takeInline(b []byte, off int64) error {
	n := int(binary.LittleEndian.Uint16(b[78:]))
	if n == 0 && s.inlineKind == kindHole {
		return nil
	}
	if n == 0 || n > inlineMax || !s.inlineKind.isFrame() || s.depth != 0 ||
		s.size > int64(s.frameSize()) || s.inlinePlain < 1 || int64(s.inlinePlain) > s.size {
		return damagef("superblock", off+76, "inline data of %d bytes, kind %d, %d plain, in a store of %d bytes",
			n, s.inlineKind, s.inlinePlain, s.size)
	}
	s.inline = b[slotHeadLen : slotHeadLen+n : slotHeadLen+n]
	return nil
}

// checkPlace checks that the extent of e lies inside the first end bytes of the
// file, before anything is read from it.
func checkPlace(e entry, part string, at, end int64) *DamageError {
	x := e.extent()
	if x.off < dataStart || x.off+x.len > end {
		return damagef(part, at, "extent %#x..%#x, want one within %#x..%#x", x.off, x.off+x.len, dataStart, end)
	}
	if e.info>>60 != 0 {
		return damagef(part, at, "reserved bits %#x are set", e.info>>60)
	}
	return nil
}
