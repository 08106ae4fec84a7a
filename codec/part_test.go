package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"lazyfs/codec"
)

// The beginning of a frame is decoded as all of it is, whatever lies behind, and
// nothing outside of the destination is written.
func TestDecodePart(t *testing.T) {
	forEach(t, func(t *testing.T, c codec.Codec) {
		for _, content := range contents {
			plain := content.make(16384)
			stored := encode(t, c, plain)
			for _, need := range []int{0, 1, 1000, 4096, 8192, 12288, 15870, 15871, 15872, 15873, 16383, 16384} {
				t.Run(fmt.Sprintf("%s/%d", content.name, need), func(t *testing.T) { checkPart(t, c, stored, plain, need) })
			}
		}
	})
}

// Who wants all that there is room for is told that there is more.
func TestDecodePartShort(t *testing.T) {
	forEach(t, func(t *testing.T, c codec.Codec) {
		stored := encode(t, c, text(4096))
		for _, room := range []int{0, 1, 1000, 4095} {
			if n, err := c.DecodePart(make([]byte, room), stored, room); !errors.Is(err, codec.ErrShort) {
				t.Errorf("decode 4096 bytes into %d, all of which are wanted: %d, %v; want ErrShort", room, n, err)
			}
		}
	})
}

// No byte is missing where one sequence is so long that the decoder stops before it,
// wherever it begins and the bytes that are needed end.
func TestDecodePartBeforeLongSequence(t *testing.T) {
	const short = 5000
	for name, long := range map[string][]byte{"literals": random(8000), "match": make([]byte, 8000)} {
		plain := slices.Concat(text(short), long)
		for _, level := range levels[codec.LZ4] {
			c := mustNew(t, codec.LZ4, level)
			stored := encode(t, c, plain)
			for need := short - 700; need < short+100; need++ {
				if checkPart(t, c, stored, plain, need); t.Failed() {
					t.Fatalf("%s, level %d, the first %d bytes", name, level, need)
				}
			}
		}
	}
}

func checkPart(t testing.TB, c codec.Codec, stored, plain []byte, need int) {
	t.Helper()
	dst, check := guarded(t, len(plain))
	n, err := c.DecodePart(dst, stored, need)
	check()
	if err != nil || n != need && n != len(plain) || !bytes.Equal(dst[:n], plain[:n]) {
		t.Errorf("decode %d of %d bytes: %d, %v; want those bytes", need, len(plain), n, err)
	}
}
