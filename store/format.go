package store

import (
	"encoding/binary"
	"hash/crc32"

	"lazyfs/codec"
)

// PageSize is the unit of faults and of dirty tracking, in bytes.
const PageSize = 4096

// Bounds of the frame size, which is a power of two, in bytes.
const (
	MinFrameSize     = 4 << 10
	MaxFrameSize     = 1 << 20
	DefaultFrameSize = 16 << 10
)

// MaxSize is the largest plain size of a store: 2^48 frames of the smallest size.
const MaxSize = 1 << 60

// Sizes of the format's parts, in bytes (FORMAT §1).
const (
	slotLen        = 2048 // one superblock; two of them fill the first block
	slotHeadLen    = 256  // its fields; inline data follows
	inlineMax      = slotLen - slotHeadLen
	dataStart      = 2 * slotLen
	frameHeadLen   = 24
	entryLen       = 16
	unit           = 8 // extents begin and end on multiples of it
	maxFileSize    = 1 << 44 * unit
	maxGeneration  = 1<<48 - 1
	maxFrameNumber = 1<<48 - 1
)

// A kind says how a frame or an index node is stored (FORMAT §3).
type kind uint8

const (
	kindHole kind = 0
	kindRaw  kind = kind(codec.Raw)
	kindLZ4  kind = kind(codec.LZ4)
	kindZstd kind = kind(codec.Zstd)
	kindGzip kind = kind(codec.Gzip)
	kindZero kind = 8
	// kindInline marks frame 0 of a store whose bytes lie in the superblock. It
	// exists in memory only.
	kindInline kind = 9
	kindNode   kind = 0x80 // plus the level, 0 for a leaf
)

// String is the word for a kind that info, check and dump print.
func (k kind) String() string {
	switch {
	case k == kindHole:
		return "hole"
	case k == kindZero:
		return "zero"
	case k == kindInline:
		return "inline"
	case k >= kindNode:
		return "node"
	}
	return codec.ID(k).String()
}

func (k kind) isFrame() bool { return k >= kindRaw && k <= kindGzip }

// An entry of the index says where a frame or a node lies (FORMAT §4). The zero
// entry is a hole.
type entry struct {
	place uint64 // offset/8 in the upper 44 bits, payload length-1 in the lower 20
	info  uint64 // checksum, kind<<32, plain length-1 << 40
}

// zeroEntry is that of a frame which was written, and is zeros.
var zeroEntry = entry{info: uint64(kindZero) << 32}

func newEntry(off int64, payload int, k kind, plain int, sum uint32) entry {
	return entry{
		place: uint64(off/unit)<<20 | uint64(payload-1),
		info:  uint64(sum) | uint64(k)<<32 | uint64(plain-1)<<40,
	}
}

func (e entry) off() int64     { return int64(e.place>>20) * unit }
func (e entry) payload() int   { return int(e.place&(1<<20-1)) + 1 }
func (e entry) stored() int    { return frameHeadLen + e.payload() }
func (e entry) sum() uint32    { return uint32(e.info) }
func (e entry) kind() kind     { return kind(e.info >> 32) }
func (e entry) plain() int     { return int(e.info>>40&(1<<20-1)) + 1 }
func (e entry) extent() extent { return extent{e.off(), roundUp(int64(e.stored()), unit)} }

// onDisk reports whether the entry names bytes of the store file.
func (e entry) onDisk() bool { return e.kind().isFrame() || e.kind() >= kindNode }

// A frameEntry is a frame's number and entry.
type frameEntry struct {
	number int64
	entry  entry
}

func roundUp(n, to int64) int64 { return (n + to - 1) &^ (to - 1) }

func getEntry(b []byte) entry {
	return entry{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

func putEntry(b []byte, e entry) {
	binary.LittleEndian.PutUint64(b, e.place)
	binary.LittleEndian.PutUint64(b[8:], e.info)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameMagic begins the header of every frame and node.
const frameMagic = 0x72465a4c // "LZFr"

// A frameHead describes the stored bytes that follow it (FORMAT §3), so that a
// store whose index is lost can be rebuilt by a scan.
type frameHead struct {
	kind    kind
	payload int
	frame   int64  // of a node: the first frame it covers
	gen     uint64 // the commit that first names it
	sum     uint32
}

// putFrameHead writes the header in front of the payload, b[frameHeadLen:], and
// returns the checksum, which covers the store's id, the header and the payload.
func putFrameHead(b []byte, idSum uint32, k kind, frame int64, gen uint64) uint32 {
	le := binary.LittleEndian
	le.PutUint32(b, frameMagic)
	le.PutUint32(b[4:], uint32(k)|uint32(len(b)-frameHeadLen-1)<<8)
	le.PutUint64(b[8:], uint64(frame)|gen<<48)
	le.PutUint32(b[16:], uint32(gen>>16))
	sum := frameSum(b, idSum)
	le.PutUint32(b[20:], sum)
	return sum
}

func getFrameHead(b []byte) (frameHead, bool) {
	le := binary.LittleEndian
	lens := le.Uint32(b[4:])
	where := le.Uint64(b[8:])
	h := frameHead{
		kind:    kind(lens),
		payload: int(lens>>8) + 1,
		frame:   int64(where & maxFrameNumber),
		gen:     where>>48 | uint64(le.Uint32(b[16:]))<<16,
		sum:     le.Uint32(b[20:]),
	}
	return h, le.Uint32(b) == frameMagic
}

// frameSum computes the checksum of a header and its payload in b.
func frameSum(b []byte, idSum uint32) uint32 {
	return crc32.Update(crc32.Update(idSum, castagnoli, b[:20]), castagnoli, b[frameHeadLen:])
}

// verifyFrame checks the stored bytes b of e, which are to hold frame n.
func verifyFrame(b []byte, e entry, n int64, idSum uint32) error {
	h, ok := getFrameHead(b)
	if !ok {
		return e.damagef(n, "no frame header found, want magic %#x", uint32(frameMagic))
	}
	if sum := frameSum(b, idSum); sum != e.sum() || sum != h.sum {
		return e.damagef(n, "checksum is %#08x, want %#08x", sum, e.sum())
	}
	if h.kind != e.kind() || h.frame != n || h.payload != e.payload() {
		return e.damagef(n, "header says %v %d of %d bytes, want %v %d of %d",
			h.kind, h.frame, h.payload, e.kind(), n, e.payload())
	}
	return nil
}
