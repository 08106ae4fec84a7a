package codec_test

import (
	"bytes"
	"testing"

	"lazyfs/codec"
)

// maxFuzz bounds plain lengths while fuzzing, in bytes.
const maxFuzz = 1 << 16

// Any input to any decoder gives bytes, ErrShort or ErrCorrupt, within dst.
func FuzzDecode(f *testing.F) {
	for _, id := range ids {
		c := mustNew(f, id, 0)
		for _, content := range contents {
			f.Add(uint8(id), uint16(1000), encode(f, c, content.make(1000)))
		}
		for _, input := range hostile()[id] {
			f.Add(uint8(id), uint16(4096), input)
		}
	}
	f.Fuzz(func(t *testing.T, id uint8, plainLen uint16, input []byte) {
		c, err := codec.New(codec.ID(id), 0)
		if err != nil {
			return
		}
		checkHostile(t, c, input, int(plainLen))
	})
}

// Any plain bytes come back from any codec at any level.
func FuzzRoundTrip(f *testing.F) {
	for _, id := range ids {
		for _, content := range contents {
			f.Add(uint8(id), uint8(0), content.make(600))
			f.Add(uint8(id), uint8(1), content.make(17))
		}
	}
	f.Fuzz(func(t *testing.T, id, level uint8, plain []byte) {
		c, err := codec.New(codec.ID(id), int(level))
		if err != nil || len(plain) > maxFuzz {
			return
		}
		stored := encode(t, c, plain)
		dst, check := guarded(t, len(plain))
		if n, err := c.Decode(dst, stored); err != nil || !bytes.Equal(dst[:n], plain) {
			t.Fatalf("%v level %d: %d bytes, %v; want the plain bytes", c.ID(), level, n, err)
		}
		check()
		for _, need := range []int{0, len(plain) / 3, len(plain) / 2, max(len(plain)-513, 0), len(plain)} {
			checkPart(t, c, stored, plain, need)
		}
	})
}
