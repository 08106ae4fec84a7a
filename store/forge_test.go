package store

import (
	"bytes"
	"hash/crc32"
	"testing"

	"lazyfs/codec"
)

// A forge builds store files piece by piece, with checksums that are right
// whatever they cover, so that tests can make what no writer makes.
type forge struct {
	sb    superblock
	idSum uint32
	b     []byte // the file; its first block is filled in by image
}

// forgeSeed is what the first log block of a forged store begins with.
const forgeSeed = 0x5eed_0001

// newForge begins an empty store with frames of 4 KiB whose first log block is to
// lie at the end of the file.
func newForge() *forge {
	f := &forge{b: make([]byte, dataStart)}
	f.sb = superblock{gen: 3, frameShift: 12, codec: codec.LZ4, logSeed: forgeSeed, logOff: dataStart} // the log: where the file ends
	for i := range f.sb.id {
		f.sb.id[i] = byte(i)
	}
	f.idSum = crc32.Update(0, castagnoli, f.sb.id[:])
	return f
}

// put appends a frame or a node and returns its entry.
func (f *forge) put(k kind, n int64, payload []byte, plain int) entry {
	off := int64(len(f.b))
	stored := append(make([]byte, frameHeadLen), payload...)
	e := newEntry(off, len(payload), k, plain, putFrameHead(stored, f.idSum, k, n, f.sb.gen))
	f.b = append(f.b, stored...)
	f.align()
	return e
}

func (f *forge) align() {
	for len(f.b)%unit != 0 {
		f.b = append(f.b, 0)
	}
}

// frame appends plain as frame n and counts it.
func (f *forge) frame(k kind, n int64, plain []byte) entry {
	return f.count(f.put(k, n, encoded(k, plain), len(plain)))
}

func (f *forge) count(e entry) entry {
	f.sb.frames++
	f.sb.stored += e.extent().len
	return e
}

// node appends an index node that covers the frames from first on.
func (f *forge) node(level int, first int64, entries ...entry) entry {
	payload := encodeNode(entries)
	return f.put(kindNode+kind(level), first, payload, len(payload))
}

// root makes e, of that level, the index's root.
func (f *forge) root(level int, e entry, size int64) *forge {
	f.sb.root, f.sb.depth, f.sb.size = e, uint8(level+1), size
	return f
}

// leaf makes a leaf with these entries the root; size covers them.
func (f *forge) leaf(entries ...entry) *forge {
	return f.root(0, f.node(0, 0, entries...), int64(len(entries))<<f.sb.frameShift)
}

// log appends log blocks, each 4096 bytes behind the one before, unless it says
// where it goes on. Seeds and places are filled in where they are zero.
func (f *forge) log(blocks ...logBlock) *forge {
	f.sb.logOff = int64(len(f.b))
	for i, l := range blocks {
		if l.seed == 0 {
			l.seed = forgeSeed + uint64(i)
		}
		if l.nextSeed == 0 {
			l.nextSeed = forgeSeed + uint64(i) + 1
		}
		if l.next == 0 {
			l.next = int64(len(f.b)) + logBlockLen
		}
		var b [logBlockLen]byte
		l.encode(b[:], f.idSum)
		f.b = append(f.b, b[:]...)
	}
	return f
}

// image is the file, with a first block whose slots say the same.
func (f *forge) image() []byte {
	sb := f.sb
	if sb.end == 0 {
		sb.end = int64(len(f.b))
	}
	if sb.logOff == dataStart {
		sb.logOff = int64(len(f.b))
	}
	sb.encode(f.b[:slotLen])
	sb.copied = true
	sb.encode(f.b[slotLen:dataStart])
	return f.b
}

// encoded is plain as a payload of kind k.
func encoded(k kind, plain []byte) []byte {
	c, err := codec.New(codec.ID(k), 0)
	if err != nil {
		panic(err)
	}
	b := make([]byte, 2*len(plain)+100)
	n, err := c.Encode(b, plain)
	if err != nil {
		panic(err)
	}
	return b[:n]
}

// openImage opens the store in b, read-only.
func openImage(b []byte) (*Store, error) { return openDisk(diskWith(b), nil, Options{}) }

// text returns n bytes that compress well.
func text(n int, word string) []byte {
	return bytes.Repeat([]byte(word), n/len(word)+1)[:n]
}

// What a forge makes without faults is a store that a reader and a writer take,
// and Check finds nothing in it.
func TestForge(t *testing.T) {
	f := newForge()
	plain := [][]byte{text(4096, "zero "), text(4096, "one "), text(4096, "two ")}
	f.leaf(f.frame(kindLZ4, 0, plain[0]), f.frame(kindGzip, 1, plain[1]), entry{})
	two := f.put(kindZstd, 2, encoded(kindZstd, plain[2]), 4096)
	f.log(logBlock{gen: 4, size: 3 * 4096, end: true, ops: []logOp{{opSet, 2, two}}})
	for _, writable := range []bool{false, true} {
		s, err := openDisk(diskWith(f.image()), nil, Options{Writable: writable})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 3*4096)
		if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, bytes.Join(plain, nil)) {
			t.Errorf("read back %d bytes with %v, want the forged ones", len(got), err)
		}
		if d := checked(t, s); len(d) > 0 {
			t.Errorf("check finds %v, want nothing", d)
		}
	}
}
