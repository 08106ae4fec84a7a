package store

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// What a writer reads again is all that the log names, and each block of it once.
func TestNamedBy(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var commits []commit
	named := map[int64]bool{} // block numbers
	name := func(e extent) {
		for b := e.off / blockLen; b*blockLen < e.end(); b++ {
			named[b] = true
		}
	}
	for range 20 {
		c := commit{blocks: []int64{rnd.Int64N(5000) * blockLen}}
		name(extent{c.blocks[0], logBlockLen})
		for range 20 {
			e := newEntry(rnd.Int64N(20<<20/unit)*unit, 1+rnd.IntN(16<<10), kindRaw, 16<<10, 0)
			c.ops = append(c.ops, logOp{opSet, rnd.Int64N(1000), e}, logOp{opClear, 7, entry{place: 3}})
			name(e.extent())
		}
		commits = append(commits, c)
	}
	end := int64(-1)
	for _, e := range namedBy(commits) {
		if e.off <= end || e.off%blockLen != 0 || e.len%blockLen != 0 {
			t.Errorf("extent %+v behind one that ends at %#x", e, end)
		}
		end = e.end()
		for b := e.off / blockLen; b*blockLen < end; b++ {
			if !named[b] {
				t.Errorf("block %d is not named", b)
			}
			delete(named, b)
		}
	}
	if len(named) > 0 {
		t.Errorf("%d blocks are left out", len(named))
	}
}

// Where the log goes on on the disk, behind where it ends in memory, a writer takes no
// frame for whole that is in memory alone.
func TestOpenLostLog(t *testing.T) {
	f := newForge()
	plain := text(4096, "old ")
	f.leaf(f.frame(kindLZ4, 0, plain), f.frame(kindLZ4, 1, plain))
	zero := f.put(kindLZ4, 0, encoded(kindLZ4, text(4096, "new ")), 4096)
	f.b = append(f.b, make([]byte, 2*blockLen)...) // None of these lie in one block.
	one := f.put(kindLZ4, 1, encoded(kindLZ4, text(4096, "new ")), 4096)
	f.b = append(f.b, make([]byte, 2*blockLen)...)
	at := len(f.b)
	f.log(logBlock{gen: 4, size: 2 * 4096, end: true, ops: []logOp{{opSet, 0, zero}}},
		logBlock{gen: 5, size: 2 * 4096, end: true, ops: []logOp{{opSet, 1, one}}})
	d := diskWith(f.image())
	clear(d.now[at+logBlockLen:])
	clear(d.durable[one.off() : one.off()+int64(one.stored())])
	s, err := openDisk(d, nil, Options{Writable: true})
	must(t, err)
	must(t, s.Close())
	r, err := openDisk(diskWith(d.durable), nil, Options{})
	must(t, err)
	want := append(text(4096, "new "), plain...)
	if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what is found is wrong: %v", err)
	}
}

// A superblock that is in memory alone is none to a writer: the one that the disk has
// would be the next to be written over.
func TestOpenLostSuperblock(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := noise(9*MinFrameSize, 1)
	mustWrite(t, s, want, 0)
	must(t, s.checkpointNow())
	slots := bytes.Clone(d.durable[:dataStart])
	mustWrite(t, s, noise(9*MinFrameSize, 2), 0)
	must(t, s.checkpointNow())
	copy(d.durable, slots)
	s, err = openDisk(d, nil, Options{Writable: true})
	must(t, err)
	same(t, s, want)
	mustWrite(t, s, want[:1], 0)
	must(t, s.Close())
	r, err := openDisk(diskWith(d.durable), nil, Options{})
	must(t, err)
	same(t, r, want)
}

// Who opens a store that was not closed writes no superblock over the newest one, which
// is durable by then: the other is older than space that is in use again.
func TestOpenKeepsSuperblock(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(9*MinFrameSize, 1), 0)
	must(t, s.checkpointNow())
	must(t, s.Truncate(10*MinFrameSize)) // The record names no frame.
	must(t, s.Sync())
	next, err := openDisk(diskWith(d.durable), nil, Options{Writable: true})
	must(t, err)
	if next.gen == s.gen || next.slot == s.slot {
		t.Errorf("generation %d is written into slot %d, where %d was", next.gen, next.slot, s.sb.gen)
	}
}
