package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"
	"unsafe"

	"lazyfs/codec"
)

// The sizes that FORMAT.md states.
var (
	_ [4096]byte      = [dataStart]byte{}
	_ [256]byte       = [slotHeadLen]byte{}
	_ [1792]byte      = [inlineMax]byte{}
	_ [24]byte        = [frameHeadLen]byte{}
	_ [16]byte        = [entryLen]byte{}
	_ [entryLen]byte  = [unsafe.Sizeof(entry{})]byte{}
	_ [168]byte       = [opsPerBlock]byte{}
	_ [64 + 4032]byte = [logBlockLen]byte{}
	_ [1 << 10]byte   = [fanout]byte{}
	_ [5]byte         = [maxDepth]byte{}
	_ [1024]byte      = [maxLogBlocks]byte{}
	_ [1 << 20]byte   = [MaxFrameSize]byte{}
	_ [0x80]byte      = [kindNode]byte{}
)

// examplePlain is the plain bytes of the store in FORMAT §8.
func examplePlain() []byte {
	plain := append(text(4096, "lazy fs\n"), make([]byte, 4096)...)
	return append(plain, "the end\n"...)
}

// example builds the store in FORMAT §8. Its LZ4 block is made by hand: eight
// literals, a match of 4083 bytes eight bytes back, five literals.
func example() []byte {
	f := newForge()
	f.sb.logSeed = 0x1111111111111111
	lz4 := append([]byte{0x8f}, "lazy fs\n\x08\x00"...)
	lz4 = append(append(lz4, bytes.Repeat([]byte{0xff}, 15)...), 0xef, 0x50)
	lz4 = append(lz4, "y fs\n"...)
	f.sb.gen = 2
	zero := f.count(f.put(kindLZ4, 0, lz4, 4096))
	f.sb.gen = 3
	two := f.frame(kindRaw, 2, []byte("the end\n"))
	f.leaf(zero, entry{}, two)
	f.sb.size = 8200
	f.sb.end = int64(len(f.b))
	f.log(logBlock{gen: 4, size: 8200, durable: 3, end: true, seed: f.sb.logSeed, nextSeed: 0x2222222222222222,
		ops: []logOp{{opSet, 1, zeroEntry}}})
	return f.image()
}

// annotate renders the example as FORMAT §8 shows it.
func annotate(b []byte) string {
	var out strings.Builder
	line := func(off, n int, format string, args ...any) {
		for at := 0; at < n; at += 16 {
			meaning := ""
			if at == 0 {
				meaning = fmt.Sprintf(format, args...)
			}
			row := fmt.Sprintf("0x%04x  %-32x  %s", off+at, b[off+at:off+min(n, at+16)], meaning)
			fmt.Fprintln(&out, strings.TrimRight(row, " "))
		}
	}
	head := func(off int, what string) {
		line(off, 4, "%s: magic", what)
		line(off+4, 4, "  kind %v, payload of %d bytes", kind(b[off+4]), binary.LittleEndian.Uint32(b[off+4:])>>8+1)
		line(off+8, 6, "  number")
		line(off+14, 6, "  generation")
		line(off+20, 4, "  checksum")
	}
	for _, f := range slotFields {
		line(f.off, f.len, "slot 0: %s: %s", f.name, f.show(b[f.off:f.off+f.len]))
	}
	fmt.Fprintln(&out, "0x0800  as slot 0, but for")
	line(slotLen+12, 4, "slot 1: checksum")
	line(slotLen+77, 1, "slot 1: flags: a copy")
	head(0x1000, "frame 0")
	line(0x1018, 9, "  LZ4: 8 literals, a match follows")
	line(0x1021, 2, "  its offset, 8")
	line(0x1023, 16, "  its length: 4 + 15 + 15 × 255 + 239")
	line(0x1033, 6, "  5 literals")
	head(0x1040, "frame 2")
	line(0x1058, 8, "  %q", b[0x1058:0x1060])
	head(0x1060, "leaf")
	for i := range 3 {
		at := 0x1078 + i*entryLen
		line(at, entryLen, "  frame %d: %v", i, getEntry(b[at:]))
	}
	for _, f := range logFields {
		line(0x10a8+f.off, f.len, "log block: %s: %s", f.name, f.show(b[0x10a8+f.off:][:f.len]))
	}
	line(0x10a8+logHeadLen, 8, "  operation: frame 1, set")
	line(0x10a8+logHeadLen+8, entryLen, "  its entry: zero")
	fmt.Fprintf(&out, "0x%04x  end of file\n", len(b))
	return out.String()
}

// formatExample is the block of text in FORMAT §8.
func formatExample(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(doc), "## 8 Example")
	if !ok {
		t.Fatal("FORMAT.md has no section 8")
	}
	parts := strings.Split(example, "```")
	if len(parts) != 3 {
		t.Fatalf("FORMAT §8 has %d parts between fences, want 3", len(parts))
	}
	return strings.TrimPrefix(parts[1], "\n")
}

// The example in FORMAT.md is what this package writes, byte for byte and word
// for word.
func TestFormatExample(t *testing.T) {
	want := annotate(example())
	if got := formatExample(t); got != want {
		t.Errorf("FORMAT §8 has another example; want\n%s", want)
	}
}

// exampleBytes makes the file that FORMAT §8 describes out of its text alone.
func exampleBytes(t *testing.T) []byte {
	t.Helper()
	var b []byte
	slot1 := map[int][]byte{}
	for _, l := range strings.Split(strings.TrimSpace(formatExample(t)), "\n") {
		var off int
		var digits string
		fmt.Sscanf(l, "%v %s", &off, &digits)
		p, err := hex.DecodeString(digits)
		switch {
		case strings.HasSuffix(l, "end of file"):
			b = append(b, make([]byte, off-len(b))...)
		case strings.HasSuffix(l, "but for"):
		case err != nil:
			t.Fatalf("FORMAT §8: %q: %v", l, err)
		case off >= slotLen && off < dataStart:
			slot1[off] = p
		default:
			b = append(append(b, make([]byte, off-len(b))...), p...)
		}
	}
	copy(b[slotLen:dataStart], b[:slotLen])
	for off, p := range slot1 {
		copy(b[off:], p)
	}
	return b
}

// A reader that uses nothing of this package but what FORMAT.md says finds the
// example's plain bytes in its text; so does this package.
func TestFormatAlone(t *testing.T) {
	b := exampleBytes(t)
	if got, err := readByTheBook(b); err != nil || !bytes.Equal(got, examplePlain()) {
		t.Errorf("by the book: %d bytes, %v; want %d", len(got), err, len(examplePlain()))
	}
	s, err := openImage(b)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, s.Size())
	if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, examplePlain()) || s.Generation() != 4 {
		t.Errorf("opened: %d bytes of generation %d, %v; want %d of 4", len(got), s.Generation(), err, len(examplePlain()))
	}
	if d := checked(t, s); len(d) > 0 {
		t.Errorf("check finds %v", d)
	}
}

// A bookReader reads a store of one leaf, one log and LZ4 and raw frames, as
// FORMAT.md says.
type bookReader struct {
	b  []byte
	id []byte
}

func readByTheBook(b []byte) ([]byte, error) {
	u64 := binary.LittleEndian.Uint64
	sb := b[:2048]
	zeroed := bytes.Clone(sb)
	clear(zeroed[12:16])
	if string(sb[:8]) != "LAZYFS\r\n" || crc32c(zeroed) != binary.LittleEndian.Uint32(sb[12:]) || sb[75] != 1 {
		return nil, fmt.Errorf("slot 0 is not whole or has %d levels", sb[75])
	}
	r := bookReader{b, sb[40:56]}
	leaf, err := r.payload(sb[80:96], 0)
	if err != nil {
		return nil, err
	}
	entries := map[uint64][]byte{}
	for i := 0; i < len(leaf); i += 16 {
		entries[uint64(i/16)] = leaf[i : i+16]
	}
	size := u64(sb[64:])
	if l := b[u64(sb[96:]):]; u64(l[8:]) == u64(sb[104:]) &&
		crc32c(r.id, l[:4], l[8:4096]) == binary.LittleEndian.Uint32(l[4:]) && u64(l[16:]) == u64(sb[56:])+1 && l[58]&1 == 1 {
		for i := range int(binary.LittleEndian.Uint16(l[56:])) {
			op := l[64+24*i:][:24]
			entries[u64(op)&(1<<48-1)] = op[8:]
		}
		size = u64(l[40:])
	}
	plain := make([]byte, size)
	for n, e := range entries {
		payload, err := r.payload(e, n)
		if err != nil {
			return nil, err
		}
		length := u64(e[8:])>>40&(1<<20-1) + 1
		switch kind := e[12]; kind {
		case 0, 8:
		case 1, 2:
			c, _ := codec.New(codec.ID(kind), 0)
			if _, err := c.Decode(plain[n<<sb[72]:][:length], payload); err != nil {
				return nil, err
			}
		}
	}
	return plain, nil
}

// payload reads and verifies what an entry names.
func (r bookReader) payload(e []byte, n uint64) ([]byte, error) {
	place, kind := binary.LittleEndian.Uint64(e), e[12]
	if kind == 0 || kind == 8 {
		return nil, nil
	}
	head := r.b[place>>20*8:]
	payload := head[24:][:place&(1<<20-1)+1]
	sum := crc32c(r.id, head[:20], payload)
	number := binary.LittleEndian.Uint64(head[8:]) & (1<<48 - 1)
	if string(head[:4]) != "LZFr" || head[4] != kind || number != n ||
		sum != binary.LittleEndian.Uint32(e[8:]) || sum != binary.LittleEndian.Uint32(head[20:]) {
		return nil, fmt.Errorf("what should be frame %d is not", n)
	}
	return payload, nil
}

// crc32c is the checksum of FORMAT §1, bit by bit.
func crc32c(parts ...[]byte) uint32 {
	sum := ^uint32(0)
	for _, c := range bytes.Join(parts, nil) {
		sum ^= uint32(c)
		for range 8 {
			sum = sum>>1 ^ sum&1*0x82f63b78
		}
	}
	return ^sum
}

// A superblock and a log block come back from their bytes as they went in, at the
// offsets that Dump and FORMAT.md show, and their fields do not overlap.
func TestLayout(t *testing.T) {
	for name, fields := range map[string][]dumpField{"superblock": slotFields, "log block": logFields} {
		end := 0
		for _, f := range fields {
			if f.off != end {
				t.Errorf("%s: %s is at %d, want %d", name, f.name, f.off, end)
			}
			end = f.off + f.len
		}
	}
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(slotFields, logFields...) {
		if row := fmt.Sprintf("| %d | %d | ", f.off, f.len); !strings.Contains(string(doc), row) {
			t.Errorf("FORMAT.md has no field at %d of %d bytes, %s", f.off, f.len, f.name)
		}
	}
	id := [16]byte{1, 2, 3}
	l := logBlock{seed: 1 << 63, gen: 1<<48 - 1, next: 1 << 46, nextSeed: 7, size: MaxSize, durable: 5, end: true,
		ops: []logOp{{opSet, maxFrameNumber, newEntry(maxFileSize-unit, MaxFrameSize, kindGzip, MaxFrameSize, 1<<32-1)}, {opClear, 9, entry{place: 12}}}}
	var b [logBlockLen]byte
	idSum := crc32.Update(0, castagnoli, id[:])
	l.encode(b[:], idSum)
	if got, ok := decodeLogBlock(b[:], l.seed, idSum); !ok || fmt.Sprint(got) != fmt.Sprint(l) {
		t.Errorf("log block comes back as %+v, want %+v", got, l)
	}
	e := l.ops[0].arg
	if e.off() != maxFileSize-unit || e.payload() != MaxFrameSize || e.plain() != MaxFrameSize || e.kind() != kindGzip || e.sum() != 1<<32-1 {
		t.Errorf("entry of the largest values comes back as %v", e)
	}
}
