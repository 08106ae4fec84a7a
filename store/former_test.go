package store

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// withoutSuperblock is what a power cut leaves of d when all writes were done but those
// of superblocks.
func (d *simDisk) withoutSuperblock() []byte {
	image := bytes.Clone(d.durable)
	for _, op := range d.pending {
		if op.what != "write" || op.off >= dataStart {
			image = op.apply(image)
		}
	}
	return image
}

// What the last durable superblock names, nodes of the index, too, is not written over
// while a later one may still be lost, though commits go on.
func TestFormerIndexStays(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := make([]byte, 4*MinFrameSize<<fanoutBits) // Zeros: nothing but nodes takes room.
	mustWrite(t, s, want, 0)
	must(t, s.checkpointNow())
	must(t, s.Truncate(0))
	must(t, s.Commit()) // By a superblock that nobody waits for.
	mustWrite(t, s, noise(30*MinFrameSize, 1), 0)
	must(t, s.Commit())
	r, err := openDisk(diskWith(d.withoutSuperblock()), nil, Options{})
	must(t, err)
	if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what was durable is gone: %d bytes of %d, %v", len(got), len(want), err)
	}
}

// The same holds for who opens the store when the log has made holes of what a node names.
func TestFormerIndexStaysWhenOpened(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := make([]byte, 4*MinFrameSize<<fanoutBits)
	mustWrite(t, s, want, 0)
	must(t, s.checkpointNow())
	must(t, s.Punch(MinFrameSize<<fanoutBits, MinFrameSize<<fanoutBits))
	must(t, s.Sync())
	must(t, s.Discard())
	var image []byte
	d.after = func() { // Once the index is written, and its superblock is not.
		if n := len(d.pending); image == nil && n > 0 && d.pending[n-1].off < dataStart {
			image = d.withoutSuperblock()
		}
	}
	s, err = openDisk(d, nil, Options{Writable: true})
	must(t, err)
	must(t, s.spaceFault())
	must(t, s.Close())
	r, err := openDisk(diskWith(image), nil, Options{})
	must(t, err)
	if got, err := readAll(r); err != nil || !bytes.Equal(got, want) || len(checked(t, r)) > 0 {
		t.Errorf("what was durable is gone: %d bytes of %d, %v", len(got), len(want), err)
	}
}

// The file is not cut before the end that the last durable superblock says, also where
// nothing lies there any more by what the log says, or by a superblock that may be lost.
func TestFormerEndStays(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(60*MinFrameSize, 1), 0)
	must(t, s.checkpointNow())
	must(t, s.Punch(0, 20*MinFrameSize))
	must(t, s.checkpointNow())
	c := newCompactor(s, context.Background(), CompactOptions{}, compactStep)
	_, err = c.checkpoint(dataStart + 1) // Nodes and log lie where the frames were.
	must(t, err)
	must(t, s.Truncate(30*MinFrameSize))
	must(t, s.Sync())
	if s.space.end() >= s.sb.end {
		t.Fatalf("%#x bytes are in use, the superblock's end is %#x", s.space.end(), s.sb.end)
	}
	want, err := readAll(s)
	must(t, err)
	for range 2 {
		must(t, c.trim())
		r, err := openDisk(diskWith(d.withoutSuperblock()), nil, Options{})
		must(t, err)
		if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("what was durable is gone: %d bytes of %d, %v", len(got), len(want), err)
		}
		must(t, s.Truncate(0))
		must(t, s.Commit())
	}
}

// Space is free when the generation that gives it up is durable, and no sooner.
func TestLimboWaitsForDisk(t *testing.T) {
	s, err := createDisk(&simDisk{}, nil, CreateOptions{})
	must(t, err)
	must(t, s.Sync())
	last := extent{s.space.alloc(16) + 8, 8}
	s.leave(s.gen, extent{last.off - 8, 8})
	s.gen++ // By a commit that nobody waits for.
	s.leave(s.gen, last)
	s.reclaim()
	if len(s.limbo) != 1 || s.limbo[0].extent != last {
		t.Errorf("in limbo: %v, want %v", s.limbo, last)
	}
}

// Space that later generations name is not given up together with its neighbour, which
// they do not name.
func TestNeighboursInLimbo(t *testing.T) {
	s, err := createDisk(&simDisk{}, nil, CreateOptions{})
	must(t, err)
	s.leave(7, extent{0x2000, 8})
	s.leave(7, extent{0x2008, 8})
	s.leave(8, extent{0x2010, 8})
	if len(s.limbo) != 2 || s.limbo[0] != (limboExtent{7, extent{0x2000, 16}}) {
		t.Errorf("in limbo: %v", s.limbo)
	}
}

// Where a write has torn the newest superblock, and another one fails as well, the one
// before stays whole. Once a whole one is written the store is as any other.
func TestTornSuperblockTwice(t *testing.T) {
	d := &tornDisk{simDisk: &simDisk{}, some: 100}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := text(1000, "kept ")
	mustWrite(t, s, want, 0)
	must(t, s.Sync())
	mustWrite(t, s, text(1000, "not waited for "), 0)
	must(t, s.Commit())
	d.full = true
	mustWrite(t, s, text(1000, "torn "), 0)
	if err := s.Commit(); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("commit without room for a superblock: %v", err)
	}
	mustWrite(t, s, noise(3*MinFrameSize, 1), 0) // Its frames are made durable first.
	if err := s.Sync(); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("sync without room for a superblock: %v", err)
	}
	r, err := openDisk(diskWith(d.now), nil, Options{})
	must(t, err)
	if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes are on disk of %d, %v", len(got), len(want), err)
	}
	d.full = false
	must(t, s.Sync())
	if s.torn || s.durable != s.gen || len(s.limbo) > 0 {
		t.Errorf("after a whole superblock: torn %v, generation %d of %d is durable, %d extents are held", s.torn, s.durable, s.gen, len(s.limbo))
	}
}
