package store

import (
	"math/bits"
	"sync"
)

// A buffer is memory for one frame, plain or stored, or for a few that lie side by
// side.
type buffer struct{ b []byte }

// spares are buffers for reuse by all stores: at i those of 1<<i bytes.
var spares [bits.UintSize]sync.Pool

// getBuffer returns a buffer whose length is n, rounded up to a power of two; what is
// in it is left from before. n is not 0.
func getBuffer(n int) *buffer {
	class := bits.Len(uint(n - 1))
	if b, ok := spares[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, 1<<class)}
}

// putBuffer gives b back, which is not used from then on.
func putBuffer(b *buffer) { spares[bits.Len(uint(len(b.b)-1))].Put(b) }
