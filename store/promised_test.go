package store

import (
	"context"
	"testing"
)

// On a full disk the gaps that were promised to writes are neither given back to it nor
// taken by a compaction before these are committed.
func TestPromisedGaps(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(600*MinFrameSize, 1), 0)
	must(t, s.Sync())
	must(t, s.Punch(0, 300*MinFrameSize))
	must(t, s.Sync())
	d.setFull(true)
	written, full := int64(0), false
	for ; !full; written++ {
		_, err := s.WriteAt(noise(MinFrameSize, 2), written*MinFrameSize)
		if full = isNoSpace(err); !full {
			must(t, err)
		}
	}
	punched := d.counts["punch"]
	s.mu.Lock()
	waiting := len(s.dirty)
	s.punchFree(true)
	s.mu.Unlock()
	if now := d.counts["punch"] - punched; waiting == 0 || now > 0 {
		t.Errorf("%d gaps are given back while %d frames wait for room", now, waiting)
	}
	last, err := s.idx.lookup(599)
	must(t, err)
	to := int64(toAnywhere)
	s.space.holes(runBytes, func(e extent) bool { to = e.off; return false })
	free := s.space.freeBytes()
	c := newCompactor(s, context.Background(), CompactOptions{}, compactStep)
	if off, _, err := c.claim(move{frameEntry{599, last}, to}); !isNoSpace(err) {
		t.Errorf("a compaction takes %#x, and %#x were for writes: %v, want ENOSPC", off, to, err)
	}
	if now := s.space.freeBytes(); now != free {
		t.Errorf("%d bytes are free then, %d were before", now, free)
	}
	must(t, s.Sync())
}
