package test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"lazyfs/codec"
	"lazyfs/store"
)

// A reader that is written from store/FORMAT.md alone reads what package store writes, as
// a commit leaves it and as it is closed.
func TestFormat(t *testing.T) {
	for _, id := range []codec.ID{codec.Raw, codec.LZ4, codec.Zstd, codec.Gzip} {
		for seed := range uint64(3) {
			path := fmt.Sprintf("%s/%v-%d.lazy", t.TempDir(), id, seed)
			s, err := store.Create(path, store.CreateOptions{Codec: id, FrameSize: store.MinFrameSize << (2 * seed)})
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(seed, uint64(id)))
			for range 40 {
				changeAtRandom(t, s, r)
				if err := s.Commit(); err != nil {
					t.Fatal(err)
				}
			}
			want, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
			if err != nil {
				t.Fatal(err)
			}
			readByFormat(t, path, want, "committed")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			readByFormat(t, path, want, "closed")
		}
	}
}

// The same holds of what earlier versions wrote.
func TestFormatOfOldStores(t *testing.T) {
	for _, o := range oldStores(t) {
		r, err := readFormat(read(t, "stores/"+o.name))
		if err != nil {
			t.Errorf("%s: %v", o.name, err)
			continue
		}
		got, err := r.plain()
		if sum := sha256.Sum256(got); err != nil || hex.EncodeToString(sum[:]) != o.sum {
			t.Errorf("%s: %d bytes with sum %x, %v; want %d with %s", o.name, len(got), sum, err, o.size, o.sum)
		}
	}
}

// changeAtRandom writes, punches or cuts s, which stays below 17 MiB.
func changeAtRandom(t *testing.T, s *store.Store, r *rand.Rand) {
	t.Helper()
	var err error
	switch off := r.Int64N(2<<20) << r.IntN(4); r.IntN(5) {
	case 0:
		err = s.Punch(off, r.Int64N(1<<20))
	case 1:
		err = s.Truncate(min(off, s.Size()))
	case 2:
		_, err = s.WriteAt(make([]byte, r.IntN(1<<16)), off)
	case 3:
		_, err = s.WriteAt(noise(r.Uint64(), r.IntN(1<<16)), off)
	default:
		_, err = s.WriteAt(text(r.Uint64(), r.IntN(1<<17)), off)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// readByFormat checks the store at path, which is in the state how.
func readByFormat(t *testing.T, path string, want []byte, how string) {
	t.Helper()
	r, err := readFormat(read(t, path))
	if err != nil {
		t.Fatalf("%s, %s: %v", path, how, err)
	}
	if got, err := r.plain(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s, %s: %d bytes, %v; want the %d that the store reads", path, how, len(got), err, len(want))
	}
}

// A formatReader reads a store by what store/FORMAT.md says, and knows nothing of package
// store. It leaves out the checks of fields, which only a damaged store does not pass.
type formatReader struct {
	file   []byte
	slot   []byte           // the superblock that counts
	idSum  uint32           // with which other checksums begin
	size   uint64           // plain bytes
	frames map[uint64]field // entries by number
}

// A field is bytes of the file.
type field []byte

// at is the little-endian number of n bytes at off.
func (f field) at(off, n int) uint64 {
	v := uint64(0)
	for _, b := range slices.Backward(f[off : off+n]) {
		v = v<<8 | uint64(b)
	}
	return v
}

// entryLen is the length of an entry (§4).
const entryLen = 16

// The fields of an entry (§4).
func (f field) payload() uint64 { return f.at(0, 8)&(1<<20-1) + 1 }
func (f field) offset() uint64  { return f.at(0, 8) >> 20 * 8 }
func (f field) sum() uint32     { return uint32(f.at(8, 4)) }
func (f field) kind() uint64    { return f.at(12, 1) }
func (f field) plain() uint64   { return f.at(8, 8)>>40&(1<<20-1) + 1 }
func (f field) isHole() bool    { return f.at(0, 8)|f.at(8, 8) == 0 }

func sumOf(begin uint32, parts ...[]byte) uint32 {
	for _, p := range parts {
		begin = crc32.Update(begin, crc32.MakeTable(crc32.Castagnoli), p)
	}
	return begin
}

// readFormat reads the store in file.
func readFormat(file []byte) (*formatReader, error) {
	r := &formatReader{file: file, frames: make(map[uint64]field)}
	if r.slot = chooseSlot(file); r.slot == nil {
		return nil, errors.New("no slot is whole")
	}
	s := field(r.slot)
	r.idSum, r.size = sumOf(0, s[40:56]), s.at(64, 8)
	if depth := s.at(75, 1); depth > 0 {
		if err := r.walk(field(s[80:96]), depth-1, 0); err != nil {
			return nil, err
		}
	}
	if s.at(78, 2) == 0 {
		r.replay()
	}
	return r, nil
}

// chooseSlot returns the slot that counts (§2), nil if none is whole.
func chooseSlot(file []byte) field {
	var whole []field
	for _, s := range []field{file[:2048], file[2048:4096]} {
		if string(s[:8]) == "LAZYFS\r\n" && uint32(s.at(12, 4)) == sumOf(0, s[:12], make([]byte, 4), s[16:]) {
			whole = append(whole, s)
		}
	}
	switch {
	case len(whole) == 0:
		return nil
	case len(whole) == 1:
		return whole[0]
	}
	a, b := whole[0], whole[1]
	if b.at(56, 8) > a.at(56, 8) || b.at(56, 8) == a.at(56, 8) && a.at(77, 1)&1 != 0 {
		return b
	}
	return a
}

// stored returns the payload of frame or node number n, which e names (§3).
func (r *formatReader) stored(e field, n uint64) ([]byte, error) {
	end := e.offset() + 24 + e.payload()
	if end > uint64(len(r.file)) {
		return nil, fmt.Errorf("extent of %d ends at %#x, the file at %#x", n, end, len(r.file))
	}
	x := field(r.file[e.offset():end])
	if string(x[:4]) != "LZFr" || x.at(4, 1) != e.kind() || x.at(5, 3)+1 != e.payload() || x.at(8, 6) != n {
		return nil, fmt.Errorf("header of %d at %#x is %x", n, e.offset(), x[:24])
	}
	if sum := sumOf(r.idSum, x[:20], x[24:]); sum != e.sum() || sum != uint32(x.at(20, 4)) {
		return nil, fmt.Errorf("checksum of %d at %#x is %#x", n, e.offset(), sum)
	}
	return x[24:], nil
}

// walk takes the entries below the node that e names (§4).
func (r *formatReader) walk(e field, level, first uint64) error {
	if e.kind() != 0x80+level {
		return fmt.Errorf("node of level %d is of kind %#x", level, e.kind())
	}
	payload, err := r.stored(e, first)
	for i := uint64(0); err == nil && len(payload) > 0; i++ {
		kid, n := field(payload[:entryLen]), first+i<<(10*level)
		payload = payload[entryLen:]
		switch {
		case kid.isHole():
		case level > 0:
			err = r.walk(kid, level-1, n)
		default:
			r.frames[n] = kid
		}
	}
	return err
}

// A formatRecord is a record of the log (§5).
type formatRecord struct {
	gen, size, durable uint64
	operations         []field
}

// replay does what the records say that count (§5).
func (r *formatReader) replay() {
	for _, record := range r.counting(r.records()) {
		r.size = record.size
		apply(r.frames, record.operations)
	}
}

// apply does operations of the log on entries.
func apply(frames map[uint64]field, operations []field) {
	for _, o := range operations {
		n := o.at(0, 6)
		if o.at(7, 1) == 1 {
			frames[n] = o[8:]
			continue
		}
		maps.DeleteFunc(frames, func(other uint64, _ field) bool { return other >= n && other-n < o.at(8, 8) })
	}
}

// records follows the chain of the log.
func (r *formatReader) records() (all []formatRecord) {
	s := field(r.slot)
	at, seed, gen := s.at(96, 8), s.at(104, 8), s.at(56, 8)
	var operations []field
	for blocks := 0; blocks < 1024 && at+4096 <= uint64(len(r.file)); blocks++ {
		b := field(r.file[at : at+4096])
		if string(b[:4]) != "LZlg" || b.at(8, 8) != seed || uint32(b.at(4, 4)) != sumOf(r.idSum, b[:4], b[8:]) || b.at(16, 8) != gen+1 {
			break
		}
		for i := range int(b.at(56, 2)) {
			operations = append(operations, field(b[64+24*i:][:24]))
		}
		at, seed = b.at(24, 8), b.at(32, 8)
		if b.at(58, 1)&1 != 0 {
			all = append(all, formatRecord{b.at(16, 8), b.at(40, 8), b.at(48, 8), operations})
			gen, operations = gen+1, nil
		}
	}
	return all
}

// counting returns the records up to the last one that counts.
func (r *formatReader) counting(all []formatRecord) []formatRecord {
	durable := uint64(0)
	for _, record := range all {
		durable = max(durable, record.durable)
	}
	for n := len(all); ; n-- {
		if n == 0 || all[n-1].gen <= durable || r.whole(all[:n], durable) {
			return all[:n]
		}
	}
}

// whole says whether the frames are there that the records name which came after durable,
// but for those that one of them sets or clears again.
func (r *formatReader) whole(records []formatRecord, durable uint64) bool {
	left := make(map[uint64]field)
	for _, record := range records {
		if record.gen > durable {
			apply(left, record.operations)
		}
	}
	for n, e := range left {
		if e.kind() >= 1 && e.kind() <= 4 {
			if _, err := r.stored(e, n); err != nil {
				return false
			}
		}
	}
	return true
}

// plain returns all plain bytes (§3).
func (r *formatReader) plain() ([]byte, error) {
	s := field(r.slot)
	all := make([]byte, r.size)
	if n := s.at(78, 2); n > 0 {
		b, err := decodeFormat(s.at(76, 1), s[256:256+n])
		if err == nil && uint64(len(b)) != s.at(136, 4) {
			err = fmt.Errorf("inline data decodes to %d bytes, want %d", len(b), s.at(136, 4))
		}
		copy(all, b)
		return all, err
	}
	for n, e := range r.frames {
		if e.isHole() || e.kind() == 8 {
			continue
		}
		payload, err := r.stored(e, n)
		if err != nil {
			return nil, err
		}
		b, err := decodeFormat(e.kind(), payload)
		if err != nil || uint64(len(b)) != e.plain() {
			return nil, fmt.Errorf("frame %d decodes to %d bytes, %v, want %d", n, len(b), err, e.plain())
		}
		copy(all[n<<s.at(72, 1):], b)
	}
	return all, nil
}

// decodeFormat decodes a payload (§3).
func decodeFormat(kind uint64, payload []byte) ([]byte, error) {
	switch kind {
	case 1:
		return payload, nil
	case 2:
		b := make([]byte, 1<<20)
		n, err := lz4.UncompressBlock(payload, b)
		return b[:max(n, 0)], err
	case 3:
		d, err := zstd.NewReader(nil)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return d.DecodeAll(payload, nil)
	case 4:
		z, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(z)
	}
	return nil, fmt.Errorf("frame is of kind %d", kind)
}
