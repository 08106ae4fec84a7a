package codec

import (
	"sync"

	"github.com/pierrec/lz4/v4"
)

// lz4Codec writes LZ4 blocks (lz4_Block_format.md of the reference
// implementation). Level 0 uses the reference's fast method, which is as fast as
// the library's own in frames of 4 to 64 KiB and smaller by 1 to 3 percent. In C the
// same method, with the same result, is 1.2 to 1.4 times as fast. The other levels
// take the longest match at each place and never look whether the next place has a
// longer one, as the reference's do: at the highest they are faster than its level 9,
// and larger by 1.5 percent in frames of 4 KiB, 3 in 16 KiB and 4 in 64 KiB.
type lz4Codec struct{ level int }

// An lz4HC is a high-compression encoder with scratch space for its result.
type lz4HC struct {
	lz4.CompressorHC
	buf []byte
}

var (
	lz4FastPool = sync.Pool{New: func() any { return new(lz4.CompressorCCompat) }}
	lz4HCPool   = sync.Pool{New: func() any { return new(lz4HC) }}
)

func (lz4Codec) ID() ID { return LZ4 }

func (c lz4Codec) Encode(dst, src []byte) (int, error) {
	if c.level > 0 {
		return c.encodeHC(dst, src)
	}
	e := lz4FastPool.Get().(*lz4.CompressorCCompat)
	defer lz4FastPool.Put(e)
	return lz4Fit(e.CompressBlock(src, dst))
}

// encodeHC encodes with high compression. CompressorHC finds the end of a short
// destination by a recovered panic, which allocates, and gives up early when
// there is less room than the worst case needs; so it gets the worst case.
func (c lz4Codec) encodeHC(dst, src []byte) (int, error) {
	e := lz4HCPool.Get().(*lz4HC)
	defer lz4HCPool.Put(e)
	// Depths below the library's own Level1, which is 512, give most of the
	// gain; each level doubles the one before, 9 searches 1024 places.
	e.Level = lz4.CompressionLevel(2 << c.level)

	bound := lz4.CompressBlockBound(len(src))
	if len(dst) >= bound {
		return lz4Fit(e.CompressBlock(src, dst))
	}
	e.buf = grow(e.buf, bound)
	n, err := lz4Fit(e.CompressBlock(src, e.buf))
	if err != nil || n > len(dst) {
		return 0, ErrShort
	}
	return copy(dst, e.buf[:n]), nil
}

// lz4Fit turns the library's answer into ours: a block has at least one byte, so
// that no bytes mean no room, with or without an error.
func lz4Fit(n int, err error) (int, error) {
	if n <= 0 || err != nil {
		return 0, ErrShort
	}
	return n, nil
}

func (lz4Codec) Decode(dst, src []byte) (int, error) {
	if len(src) == 0 {
		return 0, corrupt(LZ4, "no bytes")
	}
	n, err := lz4.UncompressBlock(src, dst)
	if err == nil {
		return n, nil
	}
	// The library has one error for both. Only bad input comes here.
	if plain, ok := lz4PlainLen(src); ok && plain > len(dst) {
		return 0, ErrShort
	}
	return 0, corrupt(LZ4, "malformed block")
}

// lz4PlainLen walks the sequences of the block in src without decoding them and
// returns its plain length; ok says whether the block is well formed.
func lz4PlainLen(src []byte) (n int, ok bool) {
	for len(src) > 0 {
		token := int(src[0])
		src = src[1:]

		var literals, match int
		if literals, src, ok = lz4Len(token>>4, src); !ok || literals > len(src) {
			return 0, false
		}
		n += literals
		if src = src[literals:]; len(src) == 0 {
			return n, true // The last sequence has literals only.
		}

		if len(src) < 2 {
			return 0, false
		}
		off := int(src[0]) | int(src[1])<<8
		if off == 0 || off > n {
			return 0, false
		}
		if match, src, ok = lz4Len(token&15, src[2:]); !ok {
			return 0, false
		}
		n += match + 4
	}
	return 0, false
}

// lz4Len reads what follows a length's four bits in a token and returns the
// length and the rest of src.
func lz4Len(nibble int, src []byte) (n int, rest []byte, ok bool) {
	n = nibble
	if n < 15 {
		return n, src, true
	}
	for i, b := range src {
		n += int(b)
		if b != 255 {
			return n, src[i+1:], true
		}
	}
	return 0, nil, false
}

// grow returns a slice of length n, b itself when it has the room. What it holds
// is undefined.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
