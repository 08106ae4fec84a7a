package store

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// A meetingDisk calls meet once, before the next write of so many bytes.
type meetingDisk struct {
	disk
	length int
	meet   func()
}

func (d *meetingDisk) WriteAt(p []byte, off int64) (int, error) {
	if meet := d.meet; meet != nil && len(p) == d.length {
		d.meet = nil
		meet()
	}
	return d.disk.WriteAt(p, off)
}

// Nodes of the index that move into gaps for which a full disk has no blocks do not take
// the room of frames that are written meanwhile.
func TestMovedNodesLeaveRoom(t *testing.T) {
	dir := smallDisk(t, "8m")
	f, err := os.Create(filepath.Join(dir, "s.lazy"))
	must(t, err)
	d := &meetingDisk{disk: fileDisk{f}}
	s, err := createDisk(d, f, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	defer s.Discard()
	page := noise(MinFrameSize, 1)
	mustWrite(t, s, noise(2<<20, 2), 0)
	must(t, s.Sync())
	const leaves = 120
	for i := range int64(leaves) { // Each with its last entry, so that it is long.
		mustWrite(t, s, page, (i*fanout+fanout-1)*MinFrameSize)
	}
	must(t, s.checkpointNow())
	must(t, s.Punch(0, 2<<20))
	must(t, s.checkpointNow())
	s.mu.Lock()
	s.punchGaps(true, 0)
	s.mu.Unlock()
	mustWrite(t, s, page, leaves*fanout*MinFrameSize)
	fillDisk(t, dir)
	accepted := 0
	d.length = int(s.frameRoom())
	d.meet = func() {
		for ; err == nil; accepted++ {
			_, err = s.WriteAt(page, int64(leaves*fanout+1+accepted)*MinFrameSize)
		}
	}
	c := newCompactor(s, context.Background(), CompactOptions{}, compactStep)
	if _, err := c.checkpoint(c.layout().goal); err != nil && !isNoSpace(err) {
		t.Error(err)
	}
	if !isNoSpace(err) || accepted < 2 {
		t.Fatalf("%d frames are accepted, then %v", accepted, err)
	}
	must(t, s.Sync())
}
