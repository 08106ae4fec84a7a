package codec

import (
	"bytes"

	"github.com/pierrec/lz4/v4"
)

const (
	// lz4Overrun is more than twice what the library may write behind the end of a
	// sequence: it copies pieces of up to 48 bytes whole.
	lz4Overrun = 128
	// lz4Slack is how much more than the bytes that are needed has room, so that it is
	// rare that one sequence reaches over all of it.
	lz4Slack = 512
)

// lz4Mark is no text and no machine code that a frame is likely to have. Where a frame
// has it all the same, all of that is decoded.
var lz4Mark = []byte("\xd1\x8e\x1d\xf5\x92\x03\xb7\xe8")

// DecodePart has the library decode until there is no more room, a little behind the need
// bytes. A sequence that does not fit is not begun, and the library does not say where
// that was. A mark behind the bytes tells: all of them are there when it was overwritten,
// since sequences are decoded in their order.
func (c lz4Codec) DecodePart(dst, src []byte, need int) (int, error) {
	if need+lz4Slack < len(dst) {
		mark := dst[need+lz4Overrun:][:len(lz4Mark)]
		copy(mark, lz4Mark)
		n, err := lz4.UncompressBlock(src, dst[:need+lz4Slack])
		if err == nil {
			return n, nil
		}
		if !bytes.Equal(mark, lz4Mark) {
			return need, nil
		}
	}
	return c.Decode(dst, src)
}
