package store

import (
	"fmt"
	"testing"
)

// owedFault is what is wrong with the account of what waits, once nobody is at work: room
// that is held back for nothing, or memory that is counted and not there.
func (s *Store) owedFault() error {
	s.flusher.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if waits := int64(len(s.dirty)) * int64(s.frameSize); s.booked != 0 || len(s.frozen) != 0 || s.dirtyBytes != waits {
		return fmt.Errorf("%d frames are booked, %d frozen, %d bytes wait: want none, none, %d", s.booked, len(s.frozen), s.dirtyBytes, waits)
	}
	if !s.owes() && (s.spared != 0 || len(s.queue) != 0) {
		return fmt.Errorf("nothing is to be committed, but %d frames are spared, %d queued", s.spared, len(s.queue))
	}
	return nil
}

// After a checkpoint a writer holds back no more than one that has just opened the store,
// but for what is written meanwhile.
func TestCheckpointOwesNothing(t *testing.T) {
	const leaf = MinFrameSize << fanoutBits
	d := &hookedDisk{&simDisk{}, func() {}}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	must(t, s.Truncate(3000*leaf))
	must(t, s.checkpointNow())
	least := s.need(0)
	for i := range int64(50) {
		mustWrite(t, s, noise(100, byte(i)), i*leaf)
		mustWrite(t, s, make([]byte, MinFrameSize), i*leaf+MinFrameSize)
		must(t, s.Punch(i*leaf+2*MinFrameSize, 10*MinFrameSize))
		must(t, s.Sync())
		must(t, s.owedFault())
	}
	must(t, s.checkpointNow())
	depth := int64(s.idx.depth())
	if need := s.need(0); need > least+2*depth*nodeRoom {
		t.Errorf("%d bytes are needed after a checkpoint, %d at first", need, least)
	}
	far := int64(2000 * leaf) // The index has no node of so many frames yet.
	mustWrite(t, s, noise(100, 99), 0)
	d.synced = func() {
		d.synced = func() {}
		mustWrite(t, s, noise(100, 100), far)
	}
	must(t, s.checkpointNow())
	if nodes, want := s.changing.len(), int64(depthFor(s.frameOf(far))); nodes != want {
		t.Errorf("a frame was written meanwhile: %d nodes are to change, want %d", nodes, want)
	}
}
