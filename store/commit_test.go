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

// A commit that would make the log longer than a reader looks is a checkpoint: what was
// synced is found, whatever the number of commits before it.
func TestLogIsNotTooLong(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	must(t, s.Truncate(9*MinFrameSize))
	must(t, s.checkpointNow())
	longest := 0
	for i := range maxLogBlocks + 2 {
		must(t, s.WriteFrame(int64(i)%9, make([]byte, MinFrameSize)))
		must(t, s.Sync())
		longest = max(longest, len(s.logBlocks))
		if i < maxLogBlocks-2 {
			continue
		}
		r, err := openDisk(diskWith(d.durable), nil, Options{})
		must(t, err)
		if r.Generation() != s.Generation() {
			t.Errorf("commit %d: generation %d is found, want %d", i, r.Generation(), s.Generation())
		}
	}
	if longest < maxLogBlocks-1 {
		t.Errorf("the log had %d blocks at most, want %d or one less", longest, maxLogBlocks)
	}
}

// An empty store takes but a superblock, so that one can be emptied where a full disk has
// no room for anything else.
func TestEmptiedOnFullDisk(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(9*MinFrameSize, 1), 0)
	must(t, s.Close())
	s, err = openDisk(d, nil, Options{Writable: true})
	must(t, err)
	d.setFull(true)
	must(t, s.Truncate(0))
	must(t, s.Sync())
	r, err := openDisk(diskWith(d.durable), nil, Options{})
	must(t, err)
	if r.Size() != 0 {
		t.Errorf("the store has %d bytes, want none", r.Size())
	}
	must(t, s.Close())
}
