package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"
)

// A log whose blocks say what none can is a log that ends there: the store opens
// with the generation before.
func TestHostileLogs(t *testing.T) {
	end := func(l logBlock) logBlock { l.gen, l.size, l.end = 4, 8192, true; return l }
	set := func(e entry) logBlock { return end(logBlock{ops: []logOp{{opSet, 1, e}}}) }
	many := make([]logOp, opsPerBlock)
	for i := range many {
		many[i] = logOp{opSet, int64(i), zeroEntry}
	}
	torn := newEntry(dataStart, 100, kindLZ4, 4096, 0)
	for name, blocks := range map[string][]logBlock{
		"points to itself":          {{gen: 4, seed: forgeSeed, nextSeed: forgeSeed, next: -1, ops: many}},
		"ends and points to itself": {end(logBlock{seed: forgeSeed, nextSeed: forgeSeed, next: -1}), {gen: 9}},
		"next in the first block":   {end(logBlock{next: 8})},
		"next negative":             {end(logBlock{next: math.MinInt64})},
		"next far away":             {end(logBlock{next: math.MaxInt64 - 7})},
		"next odd":                  {end(logBlock{next: dataStart + 1})},
		"generation skipped":        {{gen: 5, size: 8192, end: true}},
		"generation repeated":       {{gen: 3, size: 8192, end: true}},
		"generation differs":        {{gen: 4, size: 8192}, {gen: 5, size: 8192, end: true}},
		"other seed":                {end(logBlock{seed: 99})},
		"never ends":                {{gen: 4, size: 8192, ops: many}, {gen: 4, size: 8192, ops: many}},
		"negative size":             {{gen: 4, size: -1, end: true}},
		"size too large":            {{gen: 4, size: MaxSize + 1, end: true}},
		"unknown operation":         {end(logBlock{ops: []logOp{{7, 0, entry{}}}})},
		"clears too much":           {end(logBlock{ops: []logOp{{opClear, 1, entry{place: 1 << 48}}}})},
		"clears less than nothing":  {end(logBlock{ops: []logOp{{opClear, 1, entry{place: math.MaxUint64}}}})},
		"sets a node":               {set(newEntry(dataStart, 100, kindNode, 100, 0))},
		"sets kind 9":               {set(entry{info: uint64(kindInline) << 32})},
		"sets kind 9 with place":    {set(newEntry(dataStart, 100, kindInline, 100, 0))},
		"sets a long frame":         {set(newEntry(dataStart, 100, kindLZ4, 1<<20, 0))},
		"sets a frame not there":    {set(torn)},
		"sets one behind the file":  {set(newEntry(1<<46, 100, kindLZ4, 4096, 0))},
		"sets one in the first":     {set(newEntry(8, 100, kindLZ4, 4096, 0))},
		"believes itself durable":   {{gen: 4, size: 8192, end: true, durable: 99, ops: []logOp{{opSet, 1, torn}}}},
		"durable but for its end":   {{gen: 4, size: 8192, durable: 99, ops: []logOp{{opSet, 1, torn}}}, {gen: 4, size: 8192, end: true}},
		"size differs":              {{gen: 4, size: 4096}, {gen: 4, size: 8192, end: true}},
	} {
		f := newForge()
		f.leaf(f.frame(kindLZ4, 0, text(4096, "fine ")))
		for i := range blocks {
			if blocks[i].next == -1 {
				blocks[i].next = int64(len(f.b))
			}
		}
		image := f.log(blocks...).image()
		s, err := openImage(image)
		if err != nil {
			t.Errorf("%s: open: %v", name, err)
			continue
		}
		wantGen := uint64(3)
		switch name {
		case "ends and points to itself":
			wantGen = 4
		case "size differs":
			wantGen = 4
			if s.Size() != 8192 {
				t.Errorf("%s: size is %d, want 8192: that of the last block", name, s.Size())
			}
		case "believes itself durable":
			wantGen = 4
			if _, err := s.ReadAt(make([]byte, 10), 4096); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: read of its frame: %v, want ErrDamaged", name, err)
			}
		}
		if s.Generation() != wantGen {
			t.Errorf("%s: opens as generation %d, want %d", name, s.Generation(), wantGen)
		}
		got := make([]byte, 4096)
		if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, text(4096, "fine ")) {
			t.Errorf("%s: frame 0 reads back wrong: %v", name, err)
		}
		useStore(t, name, s)
		if s, err = openDisk(diskWith(image), nil, Options{Writable: true}); err == nil {
			changeStore(t, name, s)
		}
	}
}

// A log of the greatest length with the worst operations opens in seconds.
func TestLongHostileLog(t *testing.T) {
	f := newForge()
	f.leaf(f.frame(kindLZ4, 0, text(4096, "fine ")))
	var blocks []logBlock
	n := int64(0)
	for i := range maxLogBlocks {
		l := logBlock{gen: 4 + uint64(i), size: MaxSize, end: true}
		for range opsPerBlock {
			// The first half sets frames that the second half never clears.
			op := logOp{opSet, n, zeroEntry}
			if i >= maxLogBlocks/2 {
				op = logOp{opClear, 1 << 40, entry{place: 1 << 40}}
			}
			l.ops = append(l.ops, op)
			n++
		}
		blocks = append(blocks, l)
	}
	blocks[maxLogBlocks-1].ops[0] = logOp{opSet, 1, newEntry(dataStart, 100, kindLZ4, 4096, 0)}
	image := f.log(blocks...).image()
	start := time.Now()
	s, err := openImage(image)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("open takes %v", took)
	}
	if want := uint64(3 + maxLogBlocks - 1); s.Generation() != want {
		t.Errorf("opens as generation %d, want %d: the last one is not whole", s.Generation(), want)
	}
}

// An index that grows by several levels at once, as in a sparse store, goes on
// naming the nodes it had: after a kill the log is replayed, and a writer that
// took their space for free would panic or overwrite them.
func TestReplayGrownIndex(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	old := text(1500*4096, "old ")
	mustWrite(t, s, old, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = openDisk(d, nil, Options{Writable: true}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, []byte("far"), 1<<50)
	if err := s.Sync(); err != nil || len(s.logBlocks) == 0 {
		t.Fatalf("sync: %v, %d log blocks, want some to replay", err, len(s.logBlocks))
	}
	// Killed here.
	if s, err = openDisk(diskWith(d.now), nil, Options{Writable: true}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, text(400*4096, "new "), 1<<40)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := s.spaceFault(); err != nil {
		t.Error(err)
	}
	if d := checked(t, s); len(d) > 0 {
		t.Errorf("check finds %v", d)
	}
	got := make([]byte, len(old))
	if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, old) {
		t.Errorf("old bytes read back wrong: %v", err)
	}
}

// Opening takes memory in proportion to what the log may concern at most,
// whatever frames a log of the greatest length names.
func TestWideHostileLog(t *testing.T) {
	f := newForge()
	f.leaf(f.frame(kindLZ4, 0, text(4096, "fine ")))
	var blocks []logBlock
	for i := range int64(maxLogBlocks) {
		l := logBlock{gen: 4 + uint64(i), size: MaxSize, end: true}
		for j := range int64(opsPerBlock) {
			l.ops = append(l.ops, logOp{opSet, (i*opsPerBlock + j) << (2 * fanoutBits), zeroEntry})
		}
		blocks = append(blocks, l)
	}
	s, err := openImage(f.log(blocks...).image())
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(3 + maxLogLeaves/opsPerBlock); s.Generation() != want {
		t.Errorf("opens as generation %d, want %d", s.Generation(), want)
	}
}

// A writer keeps its log within the bounds that a reader sets: what was synced is
// there after a kill, however many leaves of the index it concerns.
func TestWideLog(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: 4 << 10, DirtyBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	const stride = fanout << 12
	for i := range int64(maxLogLeaves + 10) {
		mustWrite(t, s, fmt.Appendf(nil, "leaf %d", i), i*stride)
		// The first commit is near the bound, the others pass it one by one.
		if i >= maxLogLeaves-5 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			r, err := openImage(d.now)
			if err != nil || r.Generation() != s.Generation() {
				t.Fatalf("after leaf %d: opens as generation %d, %v, want %d", i, r.Generation(), err, s.Generation())
			}
		}
	}
}

// A log that changes a node of the index costs memory in proportion to what that node
// holds: on disk it may take 40 bytes, and a log may change very many.
func TestClearingHostileLog(t *testing.T) {
	const leaves = 40 * opsPerBlock
	f := newForge()
	var upper, kids []entry
	var blocks []logBlock
	for i := range int64(leaves) {
		kids = append(kids, f.node(0, i*fanout, zeroEntry, zeroEntry))
		if len(kids) == fanout || i == leaves-1 {
			upper, kids = append(upper, f.node(1, int64(len(upper))*fanout*fanout, kids...)), nil
		}
		if i%opsPerBlock == 0 {
			blocks = append(blocks, logBlock{gen: 4 + uint64(len(blocks)), size: MaxSize, end: true})
		}
		last := &blocks[len(blocks)-1]
		last.ops = append(last.ops, logOp{opClear, i * fanout, entry{place: 1}})
	}
	s, err := openImage(f.root(2, f.node(2, 0, upper...), MaxSize).log(blocks...).image())
	must(t, err)
	if want := uint64(3 + len(blocks)); s.Generation() != want {
		t.Fatalf("opens as generation %d, want %d", s.Generation(), want)
	}
	if n := s.idx.width(s.idx.root); n > 4*leaves {
		t.Errorf("the nodes in memory have room for %d entries, those in the file for %d", n, 3*leaves)
	}
}

// width is the number of entries for which n and the nodes below it in memory have room.
func (x *index) width(n *node) int {
	all := len(n.entries)
	for i := range n.kids {
		if kid := n.kids[i].Load(); kid != nil {
			all += x.width(kid)
		}
	}
	return all
}

// A log whose frames share bytes is looked at no longer than one of a file of that length
// can take, and ends where it can't be right.
func TestOverlappingHostileLog(t *testing.T) {
	const count = 2 * opsPerBlock
	f := newForge()
	f.sb.frameShift = 20
	f.leaf(f.frame(kindRaw, 0, text(MaxFrameSize, "fine ")))
	begin := len(f.b)
	f.b = append(f.b, make([]byte, count*frameHeadLen+MaxFrameSize)...)
	var blocks [2]logBlock
	for n := int64(count); n > 0; n-- { // Each lies in the payload of those before.
		off := begin + int(n)*frameHeadLen - frameHeadLen
		sum := putFrameHead(f.b[off:][:frameHeadLen+MaxFrameSize], f.idSum, kindRaw, n, 4)
		ops := &blocks[(n-1)/opsPerBlock].ops
		*ops = append(*ops, logOp{opSet, n, newEntry(int64(off), MaxFrameSize, kindRaw, MaxFrameSize, sum)})
	}
	for i := range blocks {
		blocks[i].gen, blocks[i].size, blocks[i].end = 4+uint64(i), (count+1)*MaxFrameSize, true
	}
	d := &countingDisk{disk: diskWith(f.log(blocks[:]...).image())}
	s, err := openDisk(d, nil, Options{})
	must(t, err)
	if s.Generation() != 3 {
		t.Errorf("opens as generation %d, want 3", s.Generation())
	}
	if size := int64(len(f.b)); d.read > 4*size {
		t.Errorf("opening a file of %d bytes reads %d", size, d.read)
	}
}

// A countingDisk counts the bytes that are read.
type countingDisk struct {
	disk
	read int64
}

func (d *countingDisk) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.disk.ReadAt(p, off)
	d.read += int64(n)
	return n, err
}
