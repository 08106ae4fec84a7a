package store

import (
	"bytes"
	"testing"
)

// Through a cache a frame is read as it was written last, also when it takes the place of
// an older form of itself, in the file or in the superblock. Of a store that is closed
// the cache keeps nothing.
func TestCacheIsNotOld(t *testing.T) {
	for _, size := range []int{100, 9 * MinFrameSize} {
		c := NewCache(1 << 20)
		s, err := createDisk(&simDisk{}, nil, CreateOptions{FrameSize: MinFrameSize, Cache: c})
		must(t, err)
		places, again := map[uint64]bool{}, 0
		for i := range byte(50) {
			want := noise(size, i)
			mustWrite(t, s, want, 0)
			must(t, s.Sync())
			e, err := s.entryOf(0)
			must(t, err)
			if places[e.place] {
				again++
			}
			places[e.place] = true
			for range 3 { // What is read once is not kept.
				got := make([]byte, size-1)
				if _, err := s.ReadAt(got, 1); err != nil || !bytes.Equal(got, want[1:]) {
					t.Fatalf("store of %d bytes written %d times: other bytes are read, %v", size, i+1, err)
				}
			}
		}
		if size > MinFrameSize && again == 0 {
			t.Error("no frame took an old place")
		}
		must(t, s.Close())
		if kept := c.shards[0].stores; len(kept) > 0 {
			t.Errorf("of a closed store of %d bytes the cache keeps %v", size, kept)
		}
	}
}
