package codec

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdWindow is the longest distance of a match: the largest frame of a store.
const zstdWindow = 1 << 20

// zstdSpare is room behind the plain bytes with which the decoder may copy in
// whole words; it needs 16. Without it decoding takes a quarter to a half longer.
const zstdSpare = 64

// zstdCodec writes Zstandard frames (RFC 8878) that state their content size and
// have no checksum: the store has its own.
type zstdCodec struct{ speed zstd.EncoderLevel }

// A zstdEncoder is an encoder with scratch space for its result, which EncodeAll
// may let grow past the caller's.
type zstdEncoder struct {
	*zstd.Encoder
	buf []byte
}

// A zstdDecoder is a decoder with scratch space of the plain length and
// zstdSpare more.
type zstdDecoder struct {
	*zstd.Decoder
	buf []byte
}

var (
	zstdEncoders [zstd.SpeedBestCompression + 1]sync.Pool // by speed
	zstdDecoders sync.Pool
)

func newZstd(level int) zstdCodec {
	if level == 0 {
		level = 3
	}
	return zstdCodec{zstd.EncoderLevelFromZstd(level)}
}

func (zstdCodec) ID() ID { return Zstd }

func (c zstdCodec) Encode(dst, src []byte) (int, error) {
	e, err := c.encoder()
	if err != nil {
		return 0, err
	}
	defer zstdEncoders[c.speed].Put(e)
	e.buf = e.EncodeAll(src, e.buf[:0])
	if len(e.buf) > len(dst) {
		return 0, ErrShort
	}
	return copy(dst, e.buf), nil
}

// encoder takes an encoder out of the pool or makes one.
func (c zstdCodec) encoder() (*zstdEncoder, error) {
	if e, ok := zstdEncoders[c.speed].Get().(*zstdEncoder); ok {
		return e, nil
	}
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(c.speed),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true), // states the content size in every frame
		zstd.WithZeroFrames(true),    // no plain bytes are a frame too
		zstd.WithWindowSize(zstdWindow),
		zstd.WithLowerEncoderMem(true),
		// Numbers and the like have few matches, but bytes that are rarer than others.
		zstd.WithAllLitEntropyCompression(true),
	)
	if err != nil {
		return nil, err
	}
	return &zstdEncoder{Encoder: e}, nil
}

// Decode believes the content size of the frame's header only after it is
// bounded by len(dst), and gives the decoder no more room than that.
func (zstdCodec) Decode(dst, src []byte) (int, error) {
	var h zstd.Header
	switch err := h.Decode(src); {
	case err != nil:
		return 0, corrupt(Zstd, err)
	case h.Skippable || !h.HasFCS || h.DictionaryID != 0:
		return 0, corrupt(Zstd, "not a frame with content size and without dictionary")
	case h.FrameContentSize > uint64(len(dst)):
		return 0, ErrShort
	case !zstdAlone(&h, src):
		return 0, corrupt(Zstd, "not one whole frame")
	}
	plain := int(h.FrameContentSize)

	d, err := zstdDecoderFromPool()
	if err != nil {
		return 0, err
	}
	defer zstdDecoders.Put(d)
	d.buf = grow(d.buf, plain+zstdSpare)
	out, err := d.DecodeAll(src, d.buf[:0])
	if err != nil {
		return 0, corrupt(Zstd, err)
	}
	return copy(dst, out), nil // All plain bytes: the decoder compares their number.
}

// zstdAlone reports whether src ends where the frame with header h does, by the headers of
// its blocks. The decoder takes frames behind it, also those without plain bytes.
func zstdAlone(h *zstd.Header, src []byte) bool {
	src = src[h.HeaderSize:]
	for last := false; !last; {
		if len(src) < 3 {
			return false
		}
		head := int(src[0]) | int(src[1])<<8 | int(src[2])<<16
		last = head&1 != 0
		n := head >> 3
		if head>>1&3 == 1 {
			n = 1 // One byte, so many times.
		}
		if n > len(src)-3 {
			return false
		}
		src = src[3+n:]
	}
	if h.HasCheckSum {
		return len(src) == 4
	}
	return len(src) == 0
}

func (c zstdCodec) DecodePart(dst, src []byte, _ int) (int, error) { return c.Decode(dst, src) }

// zstdDecoderFromPool takes a decoder out of the pool or makes one.
func zstdDecoderFromPool() (*zstdDecoder, error) {
	if d, ok := zstdDecoders.Get().(*zstdDecoder); ok {
		return d, nil
	}
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecodeAllCapLimit(true),
	)
	if err != nil {
		return nil, err
	}
	return &zstdDecoder{Decoder: d}, nil
}
