package store

import (
	"math/rand/v2"
	"testing"
)

// A Sync of one changed page costs one fdatasync and at most 64 KiB of writes,
// however large the store is. Only a checkpoint costs more: one at most in as many
// commits as the log holds blocks, or as it may concern leaves of the index; a
// second fdatasync, and every node of the index that changed since the last one. On
// average a commit stays below 64 KiB with them.
func TestCommitIsSmall(t *testing.T) {
	alone(t)
	const most = 64 << 10
	for i, size := range []int64{PageSize, 1 << 20, 64 << 20, 64 << 20, 1 << 34} {
		m := &meter{disk: &simDisk{}}
		s, err := createDisk(m, nil, CreateOptions{FrameSize: []int{PageSize, DefaultFrameSize}[i%2]})
		must(t, err)
		must(t, s.Truncate(size))
		r := rand.New(rand.NewPCG(randomSeed(t), uint64(size)))
		for range min(2000, s.frameCount(size)) { // Frames all over the store.
			frame := noise(int(min(size, int64(s.frameSize))), byte(r.Uint32()))
			mustWrite(t, s, frame, r.Int64N(s.frameCount(size))<<s.shift)
		}
		must(t, s.Sync())
		commits := someRuns(0, 3*maxLogBlocks, 20*maxLogBlocks)
		checkpoints, all, nodes := 0, m.written, int64(0)
		for i := range commits {
			logged, before, syncs := s.logNext, m.written, m.syncs
			slot, changed := s.slot, s.changing.len()
			mustWrite(t, s, noise(PageSize, byte(i)), r.Int64N(size/PageSize)*PageSize)
			must(t, s.Sync())
			wrote, synced := m.written-before, m.syncs-syncs
			if s.slot == slot {
				if synced != 1 || wrote > most || s.logNext == logged {
					t.Fatalf("size %d, commit %d: %d bytes, %d fdatasyncs, want at most %d and one", size, i, wrote, synced, most)
				}
				continue
			}
			checkpoints++
			nodes = max(nodes, changed)
			if limit := (changed+5)*nodeRoom + most; synced > 2 || wrote > limit {
				t.Errorf("size %d, commit %d, a checkpoint of %d nodes: %d bytes, %d fdatasyncs, want at most %d and 2", size, i, changed, wrote, synced, limit)
			}
		}
		all = m.written - all
		t.Logf("size %d: %d bytes a commit, %d checkpoints of up to %d nodes in %d", size, all/int64(commits), checkpoints, nodes, commits)
		if all > int64(commits)*most || checkpoints > commits/(maxLogBlocks/2)+1 {
			t.Errorf("size %d: %d bytes a commit and %d checkpoints in %d, want at most %d", size, all/int64(commits), checkpoints, commits, most)
		}
		must(t, s.Close())
	}
}
