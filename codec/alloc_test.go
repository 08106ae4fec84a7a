//go:build !race

// The race detector makes sync.Pool forget at random.

package codec_test

import (
	"testing"

	"lazyfs/codec"
)

// Once warm, no codec allocates: to encode, to find that the result doesn't fit,
// or to decode.
func TestNoAllocations(t *testing.T) {
	forEach(t, func(t *testing.T, c codec.Codec) {
		for _, content := range contents {
			plain := content.make(16384)
			stored := encode(t, c, plain)
			dst := make([]byte, len(plain)*2)
			for what, f := range map[string]func(){
				"encode":                         func() { _, _ = c.Encode(dst, plain) },
				"encode into fifteen sixteenths": func() { _, _ = c.Encode(dst[:len(plain)/16*15], plain) },
				"decode":                         func() { _, _ = c.Decode(dst[:len(plain)], stored) },
			} {
				if n := testing.AllocsPerRun(20, f); n > 0 {
					t.Errorf("%s, %s: %v allocations, want 0", content.name, what, n)
				}
			}
		}
	})
}
