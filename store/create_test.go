package store

import (
	"fmt"
	"math"
	"testing"
)

// Frames are of a power of two from 4 KiB to 1 MiB; any other size is refused.
func TestFrameSizes(t *testing.T) {
	for size := MinFrameSize; size <= MaxFrameSize; size *= 2 {
		s, err := createDisk(&simDisk{}, nil, CreateOptions{FrameSize: size})
		if err != nil || s.FrameSize() != size {
			t.Errorf("frames of %d bytes: %v", size, err)
		}
	}
	for _, size := range []int{math.MinInt, -MinFrameSize, 1, MinFrameSize / 2, MinFrameSize + 1, DefaultFrameSize - 1,
		MaxFrameSize + 1, 2 * MaxFrameSize, 1 << 62, 1<<62 + 1, math.MaxInt} {
		_, err := createDisk(&simDisk{}, nil, CreateOptions{FrameSize: size})
		want := fmt.Sprintf("frame size is %d bytes, want a power of two from %d to %d", size, MinFrameSize, MaxFrameSize)
		if err == nil || err.Error() != want {
			t.Errorf("frames of %d bytes: %v, want %q", size, err, want)
		}
	}
}
