package store

import (
	"fmt"
	"sync/atomic"
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

// A watchedDisk calls seen, once, while something is written that is as long as a frame.
type watchedDisk struct {
	disk
	length int
	seen   atomic.Pointer[func()]
}

func (d *watchedDisk) WriteAt(p []byte, off int64) (int, error) {
	if len(p) >= d.length {
		if seen := d.seen.Swap(nil); seen != nil {
			(*seen)()
		}
	}
	return d.disk.WriteAt(p, off)
}

// What was accepted is counted until it is committed, also while it is on its way to the
// file, and what it changes in the log and the index is counted, too.
func TestNeedCountsWhatWasAccepted(t *testing.T) {
	d := &watchedDisk{disk: &simDisk{}}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	d.length = int(s.frameRoom())
	must(t, s.Truncate(5000*MinFrameSize))
	must(t, s.checkpointNow())
	need := func() int64 {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.need(0)
	}
	during := func(write func() error) (seen int64) {
		look := func() { seen = need() }
		d.seen.Store(&look)
		must(t, write())
		return seen
	}
	idle, depth := need(), int64(depthFor(4999))
	mustWrite(t, s, noise(5*MinFrameSize, 1), 3000*MinFrameSize)
	accepted := need()
	if want := idle + 5*s.frameRoom() + depth*nodeRoom; accepted < want {
		t.Errorf("%d bytes are needed for 5 frames that wait, want %d", accepted, want)
	}
	if got := during(s.Commit); got < accepted {
		t.Errorf("%d bytes are needed in the middle of a commit, want %d", got, accepted)
	}
	must(t, s.checkpointNow())
	w := s.NewFrameWriter()
	defer w.Close()
	must(t, w.Add(1, noise(MinFrameSize, 2)))
	for what, write := range map[string]func() error{"Flush": w.Flush, "WriteFrame": func() error { return s.WriteFrame(2, noise(MinFrameSize, 3)) }} {
		idle := need()
		if got := during(write); got < idle+s.frameRoom() {
			t.Errorf("%d bytes are needed in the middle of %s, want %d", got, what, idle+s.frameRoom())
		}
	}
	idle = need()
	for n := range int64(4000) {
		must(t, s.WriteFrame(1000+n, make([]byte, MinFrameSize)))
	}
	if got, want := need(), idle+4000/opsPerBlock*logBlockLen; got < want {
		t.Errorf("%d bytes are needed for 4000 operations of the log, want %d", got, want)
	}
}
