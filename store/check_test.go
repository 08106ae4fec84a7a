package store

import "testing"

// Check finds nothing in a store that is being written, wherever it is cut: what is
// cut off the last frame is known, though not yet on disk.
func TestCheckBeforeCommit(t *testing.T) {
	const frame = MinFrameSize
	s, err := createDisk(&simDisk{}, nil, CreateOptions{FrameSize: frame})
	must(t, err)
	mustWrite(t, s, noise(10*frame, 1), 0)
	must(t, s.Sync())
	for _, size := range []int64{9*frame + 5, 9 * frame, 9*frame - 1, 100, 5 * frame, 0} {
		must(t, s.Truncate(size))
		for _, d := range checked(t, s) {
			t.Errorf("cut to %#x: %v", size, d)
		}
		must(t, s.Commit())
		for _, d := range checked(t, s) {
			t.Errorf("committed with %#x bytes: %v", size, d)
		}
	}
}
