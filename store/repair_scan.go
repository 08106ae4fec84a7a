package store

import (
	"cmp"
	"context"
	"io"
	"maps"
	"math"
	"slices"
)

// A piece is a frame or an index node in the damaged file.
type piece struct {
	number  int64 // of a node: the first frame it covers
	off     int64
	gen     uint64 // 0 when not known: the index names it
	sum     uint32
	payload int
	plain   int // bytes; 0 when not known
	kind    kind
	bad     bool // only its header is whole
	scanned bool // no index names it
}

func indexed(n int64, e entry) piece {
	return piece{number: n, off: e.off(), sum: e.sum(), payload: e.payload(), plain: e.plain(), kind: e.kind()}
}

func (p piece) entry() entry {
	return newEntry(p.off, p.payload, p.kind, max(p.plain, 1), p.sum)
}

// found is what a scan of the file found: the newest of each frame and node.
type found struct {
	frames []piece // by number
	nodes  []piece // by level and number
	gen    uint64  // of the newest node that is whole
	bad    int64   // pieces of which only the header is whole, older ones too
	badEnd int64   // of the last of these in the file
}

// Bounds of the headers that prove false and are remembered, since each may be of a frame
// that was damaged: so many, and one for so many bytes of the file. One that is made of
// headers would take many times its size of memory.
const (
	falseKept      = 1 << 14
	falseKeptShare = 1 << 10
)

// add adds what the scan has found, unless that is one false header too many, or a part
// of a damaged frame, whose bytes may be those of another store.
func (f *found) add(p piece) {
	if p.bad {
		if p.off < f.badEnd || f.bad >= falseKept+p.off/falseKeptShare {
			return
		}
		f.bad++
		f.badEnd = p.off + frameHeadLen + int64(p.payload)
	}
	if p.kind < kindNode {
		f.frames = append(f.frames, p)
		return
	}
	f.nodes = append(f.nodes, p)
	if !p.bad {
		f.gen = max(f.gen, p.gen)
	}
}

// frame returns the position of the first frame from number n on.
func (f *found) frame(n int64) int {
	i, _ := slices.BinarySearchFunc(f.frames, n, func(p piece, n int64) int { return cmp.Compare(p.number, n) })
	return i
}

// node returns the node of that level which covers the frames from first on.
func (f *found) node(level int, first int64) (piece, bool) {
	want := piece{kind: kindNode + kind(level), number: first}
	i, ok := slices.BinarySearchFunc(f.nodes, want, comparePlaces)
	if !ok {
		return piece{}, false
	}
	return f.nodes[i], true
}

// next returns the lowest number, from from on, of a frame that was found, or of a node up
// to that level, and the highest that there is where there is none.
func (f *found) next(level int, from int64) int64 {
	next := int64(math.MaxInt64)
	if i := f.frame(from); i < len(f.frames) {
		next = f.frames[i].number
	}
	for l := range level + 1 {
		want := piece{kind: kindNode + kind(l), number: from}
		i, _ := slices.BinarySearchFunc(f.nodes, want, comparePlaces)
		if i < len(f.nodes) && f.nodes[i].kind == want.kind {
			next = min(next, f.nodes[i].number)
		}
	}
	return next
}

func comparePlaces(a, b piece) int {
	return cmp.Or(cmp.Compare(max(a.kind, kindNode), max(b.kind, kindNode)), cmp.Compare(a.number, b.number))
}

// scan searches the file for frames and nodes, once.
func (r *salvage) scan() error {
	if r.found != nil {
		return nil
	}
	r.found = &found{}
	if !r.known {
		if err := r.findID(); err != nil {
			return err
		}
	}
	err := r.headers(func(h frameHead, off int64, b []byte) bool {
		p := piece{number: h.frame, off: off, gen: h.gen, sum: h.sum, payload: h.payload, kind: h.kind, scanned: true}
		p.bad = frameSum(b, r.idSum) != h.sum
		r.found.add(p)
		return !p.bad
	})
	limit := uint64(maxGeneration)
	if r.known && (r.sure || r.found.gen <= r.gen) {
		limit = r.gen // Newer ones are of commits that never were.
	}
	r.found.frames = newestPieces(r.found.frames, limit)
	r.found.nodes = newestPieces(r.found.nodes, limit)
	return err
}

// newestPieces keeps the newest piece of each place, none of a generation above
// limit. Whole ones go before others.
func newestPieces(pieces []piece, limit uint64) []piece {
	pieces = slices.DeleteFunc(pieces, func(p piece) bool { return p.gen > limit })
	whole := func(p piece) int {
		if p.bad {
			return 1
		}
		return 0
	}
	slices.SortFunc(pieces, func(a, b piece) int {
		return cmp.Or(comparePlaces(a, b), cmp.Compare(b.gen, a.gen), cmp.Compare(whole(a), whole(b)))
	})
	return slices.CompactFunc(pieces, func(a, b piece) bool { return comparePlaces(a, b) == 0 })
}

// Bounds of the bytes behind headers that prove false, which may overlap: so many at
// once, and on the whole so many for each byte of the file.
const (
	falseAtOnce = 64 << 20
	falseShare  = 16
)

// headers calls yield for everything in the file that looks like a frame or a
// node, with its header and payload. When yield returns true it is one, and
// nothing inside it is looked at. Among very many that are none long ones are left
// out: a file may be made of headers to take for ever.
func (r *salvage) headers(yield func(h frameHead, off int64, b []byte) bool) error {
	const chunk = 1 << 20
	b := make([]byte, chunk+frameHeadLen+MaxFrameSize)
	room := falseAtOnce
	for at := int64(dataStart); at+frameHeadLen <= r.fileSize; {
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		n := int(min(int64(len(b)), r.fileSize-at))
		r.readAround(b[:n], at)
		i := 0
		for i < chunk && i+frameHeadLen <= n {
			h, ok := getFrameHead(b[i:])
			end, next := i+frameHeadLen+h.payload, i+unit
			if ok && end <= n && h.isPlausible() && end-i <= room {
				if r.ctx.Err() != nil {
					return context.Cause(r.ctx)
				}
				if yield(h, at+int64(i), b[i:end]) {
					next = int(roundUp(int64(end), unit))
				} else {
					room -= end - i
				}
			}
			room = min(room+(next-i)*falseShare, falseAtOnce)
			i = next
		}
		at += int64(i)
		r.done = min(at, r.fileSize)
		r.tell(0)
	}
	r.done = r.fileSize
	return nil
}

// readAround reads the file, with zeros for pages that can't be read.
func (r *salvage) readAround(b []byte, off int64) {
	got, err := r.d.ReadAt(b, off)
	for err != nil && err != io.EOF && got < len(b) {
		// The disk failed at a page: leave it out.
		next := min(len(b), int(roundUp(off+int64(got)+1, PageSize)-off))
		clear(b[got:next])
		var more int
		more, err = r.d.ReadAt(b[next:], off+int64(next))
		got = next + more
	}
	clear(b[got:])
}

func (h frameHead) isPlausible() bool {
	if h.kind >= kindNode {
		return h.kind < kindNode+maxDepth && h.payload <= fanout*entryLen && h.payload%entryLen == 0
	}
	return h.kind.isFrame() && h.payload <= MaxFrameSize
}

// findID finds the checksum of the store's id, on which all others depend, when no
// superblock tells the id: it can be computed from any frame that is whole. Others
// must agree. Frames of a store within the store are shorter than those around
// them, so that what most bytes agree on is right.
func (r *salvage) findID() error {
	type vote struct{ pieces, bytes int }
	votes := map[uint32]vote{}
	err := r.headers(func(h frameHead, _ int64, b []byte) bool {
		id := seedOf(seedOf(h.sum, b[frameHeadLen:]), b[:20])
		v := votes[id]
		votes[id] = vote{v.pieces + 1, v.bytes + len(b)}
		if len(votes) > falseKept { // Each false header has an id of its own, most often.
			for few := 1; len(votes) > falseKept/2; few *= 2 {
				maps.DeleteFunc(votes, func(_ uint32, v vote) bool { return v.pieces <= few })
			}
		}
		return false
	})
	best := 0
	for id, v := range votes {
		if v.pieces > 1 && v.bytes > best {
			best, r.idSum = v.bytes, id
		}
	}
	return err
}

// seedOf returns the checksum that crc32.Update turned into sum by adding b.
func seedOf(sum uint32, b []byte) uint32 {
	c := ^sum
	for _, v := range slices.Backward(b) {
		i := castagnoliByTop[c>>24]
		c = (c^castagnoli[i])<<8 | uint32(i^v)
	}
	return ^c
}

// castagnoliByTop gives the position of the table's entry with that top byte.
var castagnoliByTop = func() (by [256]byte) {
	for i, v := range castagnoli {
		by[v>>24] = byte(i)
	}
	return by
}()

// read reads, verifies and decodes a frame, and returns its plain length. b takes
// the plain bytes.
func (r *salvage) read(p piece, b []byte) (int, error) {
	stored := make([]byte, frameHeadLen+p.payload)
	if err := r.readStored(p, stored); err != nil {
		return 0, err
	}
	return decodePiece(p, stored, b)
}

// readStored reads and verifies a frame or node.
func (r *salvage) readStored(p piece, stored []byte) error {
	if n, err := r.d.ReadAt(stored, p.off); n < len(stored) {
		return readError(err, framePart(p.kind, p.number), p.off)
	}
	return verifyFrame(stored, p.entry(), p.number, r.idSum)
}

func decodePiece(p piece, stored, b []byte) (int, error) {
	n, err := decoders[p.kind].Decode(b[:min(len(b), MaxFrameSize)], stored[frameHeadLen:])
	if err != nil {
		return 0, damagef(framePart(p.kind, p.number), p.off, "payload of %d bytes: %v", p.payload, err)
	}
	if p.plain > 0 && n != p.plain || n == 0 {
		return 0, damagef(framePart(p.kind, p.number), p.off, "payload decodes to %d bytes, want %d", n, p.plain)
	}
	return n, nil
}

func decodeNode(payload []byte) []entry {
	all := make([]entry, len(payload)/entryLen)
	for i := range all {
		all[i] = getEntry(payload[i*entryLen:])
	}
	return all
}
