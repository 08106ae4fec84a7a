package codec_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"

	"lazyfs/codec"
)

// checkHostile decodes input that may be anything: the answer is bytes within
// dst, ErrShort or ErrCorrupt, and nothing outside of dst is written.
func checkHostile(t testing.TB, c codec.Codec, input []byte, plainLen int) {
	t.Helper()
	dst, check := guarded(t, plainLen)
	n, err := c.Decode(dst, input)
	check()
	switch {
	case n < 0 || n > len(dst):
		t.Fatalf("%v: decode into %d bytes: says %d bytes", c.ID(), len(dst), n)
	case err != nil && !errors.Is(err, codec.ErrCorrupt) && !errors.Is(err, codec.ErrShort):
		t.Fatalf("%v: decode: %v; want ErrCorrupt or ErrShort", c.ID(), err)
	case err != nil && n != 0:
		t.Fatalf("%v: decode: %d bytes and %v", c.ID(), n, err)
	}
	checkHostilePart(t, c, input, dst[:n], plainLen, plainLen/4)
}

// checkHostilePart decodes the beginning of such input, of which all is whole, or
// nothing where that is not good: the answer is as Decode gives it, or need bytes that
// have nothing of what dst held before.
func checkHostilePart(t testing.TB, c codec.Codec, input, whole []byte, plainLen, need int) {
	t.Helper()
	var first []byte
	for _, before := range []byte{0x5A, 0xC3} {
		dst, check := guarded(t, plainLen)
		for i := range dst {
			dst[i] = before
		}
		n, err := c.DecodePart(dst, input, need)
		check()
		switch {
		case n < 0 || n > plainLen || err != nil && n != 0:
			t.Fatalf("%v: decode %d of %d bytes: %d, %v", c.ID(), need, plainLen, n, err)
		case err == nil && len(whole) > 0 && (n != min(need, len(whole)) && n != len(whole) || !bytes.Equal(dst[:n], whole[:n])):
			t.Fatalf("%v: decode %d of %d bytes: %d, not as all %d", c.ID(), need, plainLen, n, len(whole))
		case first != nil && !bytes.Equal(dst[:n], first):
			t.Fatalf("%v: decode %d of %d bytes: %d, not the same again", c.ID(), need, plainLen, n)
		}
		first = dst[:n]
	}
}

// A frame cut anywhere, or with any one bit flipped, never panics and never
// writes outside of the destination; a cut frame never decodes whole.
func TestCutAndFlipped(t *testing.T) {
	for _, id := range ids {
		c := mustNew(t, id, 0)
		for _, content := range contents {
			plain := content.make(1500)
			stored := encode(t, c, plain)
			for cut := range stored {
				checkHostile(t, c, stored[:cut:cut], len(plain))
				got := make([]byte, len(plain))
				if n, err := c.Decode(got, stored[:cut]); err == nil && n == len(plain) {
					t.Fatalf("%v: %s cut at %#x of %#x decodes to all %d bytes", id, content.name, cut, len(stored), n)
				}
			}
			for bit := range len(stored) * 8 {
				bad := slices.Clone(stored)
				bad[bit/8] ^= 1 << (bit % 8)
				checkHostile(t, c, bad, len(plain))
			}
		}
	}
}

// hostile are inputs made to mislead a decoder, by codec.
func hostile() map[codec.ID][][]byte {
	zstdMagic := []byte{0x28, 0xB5, 0x2F, 0xFD}
	zstd := func(b ...byte) []byte { return append(slices.Clone(zstdMagic), b...) }
	huge := binary.LittleEndian.AppendUint64(zstd(0xE0), 1<<62)                   // single segment, content size 4 EiB
	rle := zstd(0x20, 0xFF)                                                       // content size 255, then blocks of 128 KiB of one byte
	second := slices.Concat(zstd(0x20, 0x00, 0x01, 0x00, 0x00), zstd(0x00, 0x50)) // an empty frame, then one without content size
	for range 1000 {
		rle = append(rle, 0x02, 0x00, 0x10, 'x')
		second = append(second, 0x02, 0x00, 0x10, 'x')
	}
	return map[codec.ID][][]byte{
		codec.LZ4: {
			{0x00, 0x01, 0x00},                 // offset 1 with nothing decoded
			{0x10, 'a', 0x00, 0x00, 0x10, 'b'}, // offset 0
			{0x10, 'a', 0x05, 0x00, 0x10, 'b'}, // offset 5 with 1 byte decoded
			{0x1F, 'a', 0x01, 0x00},            // match length runs off the end
			{0xF0, 255, 255, 255, 0},           // literal length 780 of nothing
			bytes.Repeat([]byte{255}, 4096),
			append([]byte{0x1F, 'a', 1, 0}, bytes.Repeat([]byte{255}, 4096)...),
		},
		codec.Zstd: {
			zstdMagic,
			huge,
			rle,
			second,
			zstd(0x00, 0xFF, 0x01, 0x00, 0x00),       // no content size, window 3.75 TiB
			zstd(0x00, 0x00, 0x02, 0x00, 0x10, 'x'),  // no content size
			zstd(0x21, 0x07, 0x05, 0x01, 0x00, 0x00), // dictionary 7
			{0x50, 0x2A, 0x4D, 0x18, 0xFF, 0xFF, 0xFF, 0xFF},      // skippable, 4 GiB
			{0x50, 0x2A, 0x4D, 0x18, 0x00, 0x00, 0x00, 0x00, 'x'}, // skippable, empty
		},
		codec.Gzip: {
			{0x1f, 0x8b},
			{0x1f, 0x8b, 8, 0x04, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF},                       // extra field of 65535 bytes
			append([]byte{0x1f, 0x8b, 8, 0x08, 0, 0, 0, 0, 0, 0}, make([]byte, 9)...), // a name, no data
			{0x1f, 0x8b, 8, 0xE0, 0, 0, 0, 0, 0, 0},                                   // reserved flags
		},
	}
}

// Input made to mislead is ErrCorrupt, whatever room there is; only a content
// size in a zstd header may be believed before the rest is looked at.
func TestHostile(t *testing.T) {
	for id, inputs := range hostile() {
		c := mustNew(t, id, 0)
		for i, input := range append(inputs, nil) {
			for _, size := range []int{0, 1, 4096} {
				checkHostile(t, c, input, size)
				n, err := c.Decode(make([]byte, size), input)
				claimed := id == codec.Zstd && err == codec.ErrShort
				if !errors.Is(err, codec.ErrCorrupt) && !claimed {
					t.Errorf("%v: hostile input %d into %d bytes: %d bytes, %v; want ErrCorrupt", id, i, size, n, err)
				}
			}
		}
	}
}

// A header that claims much makes no codec allocate much: hostile input of a few
// KiB costs less than 1 MiB of memory to refuse.
func TestHostileMemory(t *testing.T) {
	var before, after runtime.MemStats
	for id, inputs := range hostile() {
		c := mustNew(t, id, 0)
		dst := make([]byte, 4096)
		if _, err := c.Decode(dst, encode(t, c, dst)); err != nil { // warms the pools
			t.Fatal(err)
		}
		for i, input := range inputs {
			runtime.ReadMemStats(&before)
			_, _ = c.Decode(dst, input)
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
				t.Errorf("%v: hostile input %d made the decoder allocate %d bytes", id, i, used)
			}
		}
	}
}

// gzip frames may have several members, and nothing may follow the last.
func TestGzipMembers(t *testing.T) {
	c := mustNew(t, codec.Gzip, 0)
	a, b := text(3000), random(1096)
	stored := slices.Concat(encode(t, c, a), encode(t, c, nil), encode(t, c, b))
	got, check := guarded(t, 4096)
	if n, err := c.Decode(got, stored); err != nil || !bytes.Equal(got[:n], append(a, b...)) {
		t.Errorf("three members: %d bytes, %v; want all plain bytes", n, err)
	}
	check()
	if n, err := c.Decode(got[:4095], stored); !errors.Is(err, codec.ErrShort) {
		t.Errorf("three members into a byte too little: %d, %v; want ErrShort", n, err)
	}
	if n, err := c.Decode(got, append(stored, 'x')); !errors.Is(err, codec.ErrCorrupt) {
		t.Errorf("a byte behind the last member: %d, %v; want ErrCorrupt", n, err)
	}
}

// A zstd frame, of one block or several, with a checksum or without, has nothing behind
// it: no other frame, be it an empty or a skippable one.
func TestZstdOneFrame(t *testing.T) {
	c := mustNew(t, codec.Zstd, 0)
	w, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true))
	if err != nil {
		t.Fatal(err)
	}
	more := map[string][]byte{
		"a byte":                {0},
		"four bytes":            {1, 2, 3, 4},
		"a skippable frame":     {0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 'x'},
		"an empty skippable":    {0x5F, 0x2A, 0x4D, 0x18, 0, 0, 0, 0},
		"an empty frame":        encode(t, c, nil),
		"a frame of a byte":     encode(t, c, text(1)),
		"a frame of 1000 bytes": encode(t, c, text(1000)),
	}
	for _, plain := range [][]byte{{}, text(1000), random(1000), make([]byte, 1000), random(300_000), make([]byte, 300_000)} {
		for how, first := range map[string][]byte{"without": encode(t, c, plain), "with": w.EncodeAll(plain, nil)} {
			dst := make([]byte, 1<<20)
			if n, err := c.Decode(dst, first); err != nil || !bytes.Equal(dst[:n], plain) {
				t.Errorf("a frame of %d bytes %s checksum: %d bytes, %v", len(plain), how, n, err)
			}
			for what, second := range more {
				if n, err := c.Decode(dst, slices.Concat(first, second)); !errors.Is(err, codec.ErrCorrupt) {
					t.Errorf("%s behind a frame of %d bytes %s checksum: %d bytes, %v; want ErrCorrupt", what, len(plain), how, n, err)
				}
			}
		}
	}
}

// A zstd frame has as many plain bytes as it says, be they in one block or several.
func TestZstdStatedSize(t *testing.T) {
	c := mustNew(t, codec.Zstd, 0)
	for _, blocks := range []string{"\x41\x00\x00abcdefgh", "\x20\x00\x00abcd\x21\x00\x00efgh", "\x43\x00\x00a"} {
		for stated := range byte(100) {
			input := append([]byte{0x28, 0xB5, 0x2F, 0xFD, 0x20, stated}, blocks...)
			n, err := c.Decode(make([]byte, 100), input)
			if stated == 8 && (n != 8 || err != nil) || stated != 8 && !errors.Is(err, codec.ErrCorrupt) {
				t.Errorf("blocks %q of 8 bytes in a frame of %d: %d bytes, %v", blocks, stated, n, err)
			}
		}
	}
}

// Encoders and decoders do not even read outside of their slices, which here end
// at a page that can't be touched.
func TestAtEndOfMemory(t *testing.T) {
	forEach(t, func(t *testing.T, c codec.Codec) {
		for _, content := range contents {
			plain := content.make(4096)
			stored := encode(t, c, plain)
			src := atEndOfMemory(t, len(plain))
			copy(src, plain)
			dst := atEndOfMemory(t, len(stored))
			if _, err := c.Encode(dst, src); err != nil || !bytes.Equal(dst, stored) {
				t.Fatalf("encode: %v, want the same result", err)
			}
			clear(src)
			if _, err := c.Decode(src, dst); err != nil || !bytes.Equal(src, plain) {
				t.Fatalf("decode: %v, want the plain bytes", err)
			}
		}
	})
}

// atEndOfMemory returns n bytes that lie directly before an inaccessible page.
func atEndOfMemory(t *testing.T, n int) []byte {
	const page = 4096
	size := (n + page - 1) &^ (page - 1)
	mem, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(mem) })
	if err := syscall.Mprotect(mem[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return mem[size-n : size : size]
}
