package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// fuzzFile bounds the files that FuzzOpen looks at, in bytes.
const fuzzFile = 64 << 10

// Whatever bytes a file has, with all checksums made right: opening, reading,
// checking, dumping and changing it as a store neither panics nor hangs, gives errors
// that say damage, reads nothing outside the file, and takes memory in proportion to
// the file and its frames.
func FuzzOpen(f *testing.F) {
	for _, image := range fuzzSeeds() {
		f.Add(image, false)
		f.Add(image, true)
	}
	f.Fuzz(func(t *testing.T, image []byte, writable bool) {
		if len(image) > fuzzFile {
			return
		}
		image = bytes.Clone(image)
		mend(image)
		before := allocated()
		s, err := openDisk(fuzzDisk{diskWith(image)}, nil, Options{Writable: writable, DirtyBytes: 1 << 20})
		// An operation of the log, 24 bytes, may need a leaf and the nodes above it.
		if used := allocated() - before; used > 32<<20+uint64(len(image))*8192 {
			t.Errorf("open of %d bytes allocates %d", len(image), used)
		}
		if errors.Is(err, unix.EFBIG) {
			return
		}
		if err != nil {
			if e := expectedDamage("open", err); e != nil {
				t.Error(e)
			}
			return
		}
		before = allocated()
		readStore(t, s)
		useStore(t, "fuzz", s)
		// Each of some 250 frames that are looked at may need a decoder and buffers.
		if used := allocated() - before; used > 64<<20+256*uint64(s.FrameSize()) {
			t.Errorf("reading and dumping of %d bytes in frames of %d allocates %d", len(image), s.FrameSize(), used)
		}
		if d := checked(t, s); d == nil && !writable {
			// What Check passes can be read and changed.
			if _, err := s.ReadAt(make([]byte, 1<<20), 0); err != nil && err != io.EOF {
				t.Errorf("check finds nothing, read gives %v", err)
			}
		}
		if writable {
			changeStore(t, "fuzz", s)
		}
	})
}

// allocated is how much memory was ever taken, in bytes.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// A fuzzDisk refuses to grow as far as a store may ask for, as file systems do,
// and to read where no file is.
type fuzzDisk struct{ *simDisk }

func (d fuzzDisk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > maxFileSize {
		panic(fmt.Sprintf("read of %d bytes at %#x", len(p), off))
	}
	return d.simDisk.ReadAt(p, off)
}

func (d fuzzDisk) WriteAt(p []byte, off int64) (int, error) {
	if off > 64<<20 {
		return 0, unix.EFBIG
	}
	return d.simDisk.WriteAt(p, off)
}

// readStore reads the beginning, the end and what lies between, in a few pieces.
func readStore(t *testing.T, s *Store) {
	t.Helper()
	b := make([]byte, 2*s.FrameSize()+100)
	for _, off := range []int64{0, 1, 4095, s.Size() / 2, s.Size() - int64(len(b)), s.Size() - 1} {
		if _, err := s.ReadAt(b, max(off, 0)); err != nil && err != io.EOF && !errors.Is(err, ErrDamaged) {
			t.Errorf("read at %#x: %v, want ErrDamaged", off, err)
		}
	}
	for off, n := int64(0), 0; n < 100; n++ {
		data, err := s.SeekData(off)
		if err != nil {
			return
		}
		if data < off {
			t.Fatalf("data from %#x on: %#x", off, data)
		}
		s.ReadAt(b, data)
		off = data + int64(s.FrameSize())
	}
}

// fuzzSeeds are small stores of each shape.
func fuzzSeeds() [][]byte {
	inline := newForge()
	inline.sb.inline, inline.sb.inlineKind, inline.sb.inlinePlain, inline.sb.size = []byte("short"), kindRaw, 5, 5
	frames := newForge()
	frames.leaf(frames.frame(kindRaw, 0, text(4096, "raw")), frames.frame(kindLZ4, 1, text(4096, "lz4")),
		entry{}, frames.frame(kindZstd, 3, text(4096, "zstd")), zeroEntry,
		frames.frame(kindGzip, 5, text(4000, "gzip")))
	levels := newForge()
	levels.root(2, levels.node(2, 0, levels.node(1, 0, entry{}, levels.node(0, fanout,
		levels.frame(kindLZ4, fanout, text(4096, "x"))))), 5<<32)
	log := newForge()
	log.leaf(log.frame(kindLZ4, 0, text(4096, "old")), log.frame(kindLZ4, 1, text(4096, "gone")))
	e := log.put(kindLZ4, 0, encoded(kindLZ4, text(4096, "new")), 4096)
	log.log(logBlock{gen: 4, size: 12288, ops: []logOp{{opClear, 1, entry{place: 1}}}},
		logBlock{gen: 4, size: 12288, end: true, ops: []logOp{{opSet, 0, e}, {opSet, 1 << 40, zeroEntry}}},
		logBlock{gen: 5, size: 1 << 59, end: true, durable: 4, ops: []logOp{{opClear, 0, entry{place: 1 << 48}}}})
	return [][]byte{newForge().image(), inline.image(), frames.image(), levels.image(), log.image()}
}

// mend makes the checksums, magic numbers and seeds of a store right wherever
// its own fields lead, so that changes of other bytes get past them.
func mend(b []byte) {
	if len(b) < dataStart {
		return
	}
	for i := range 2 {
		slot := b[i*slotLen : (i+1)*slotLen]
		copy(slot, magic)
		if slot[72] == 0 { // Give a blank one a chance.
			slot[72] = 12
		}
		m := mender{b: b, idSum: crc32.Update(0, castagnoli, slot[40:56]), left: 100}
		if depth := int(slot[75]); depth > 0 && depth <= maxDepth {
			m.mend(slot[80:96], depth-1, 0)
		}
		m.log(binary.LittleEndian.Uint64(slot[96:]), binary.LittleEndian.Uint64(slot[104:]))
		resum(slot)
	}
}

// A mender mends what one superblock leads to.
type mender struct {
	b     []byte
	idSum uint32
	left  int // nodes and frames that may still be looked at
}

// mend mends the frame, or the node of that level and all below it, that an entry
// names, and puts its checksum into the entry.
func (m *mender) mend(entry []byte, level int, first int64) {
	e := getEntry(entry)
	if m.left--; m.left < 0 || !e.onDisk() || e.off() < dataStart || e.off()+int64(e.stored()) > int64(len(m.b)) {
		return
	}
	stored := m.b[e.off():][:e.stored()]
	if level >= 0 && e.kind() == kindNode+kind(level) {
		payload := stored[frameHeadLen:]
		for i := 0; i+entryLen <= len(payload) && i/entryLen < fanout; i += entryLen {
			m.mend(payload[i:i+entryLen], level-1, first+int64(i/entryLen)<<(level*fanoutBits))
		}
	}
	h, _ := getFrameHead(stored)
	putSum(entry[8:], putFrameHead(stored, m.idSum, e.kind(), first, h.gen))
}

func (m *mender) log(off, seed uint64) {
	for range 8 {
		if len(m.b) < dataStart+logBlockLen || off < dataStart || off > uint64(len(m.b)-logBlockLen) {
			return
		}
		le := binary.LittleEndian
		l := m.b[off:][:logBlockLen]
		le.PutUint32(l, logMagic)
		le.PutUint64(l[8:], seed)
		for i := range min(int(le.Uint16(l[56:])), opsPerBlock) {
			op := l[logHeadLen+i*logOpLen:]
			if opCode(op[7]) == opSet {
				m.mend(op[8:24], -1, int64(le.Uint64(op)&maxFrameNumber))
			}
		}
		le.PutUint32(l[4:], logSum(l, m.idSum))
		off, seed = le.Uint64(l[24:]), le.Uint64(l[32:])
	}
}
