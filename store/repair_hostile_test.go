package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// hostileHeaders returns a file full of headers of long frames that are none, and the frames
// before and behind them.
func hostileHeaders() (image []byte, frames []entry) {
	f := newForge()
	frames = append(frames, f.frame(kindRaw, 0, noise(MinFrameSize, 1)))
	lie := append([]byte("LZFr"), byte(kindRaw), 0xff, 0xff, 0x0f)
	f.b = append(f.b, bytes.Repeat(lie, 40<<10)...)
	f.b = append(f.b, make([]byte, 2*MaxFrameSize)...)
	frames = append(frames, f.frame(kindRaw, 1, noise(MinFrameSize, 2)))
	return f.image(), frames
}

// What a scan sums for headers that prove false is bounded by the size of the file;
// frames are found all the same.
func TestRepairHostileHeaders(t *testing.T) {
	image, frames := hostileHeaders()
	r := &salvage{ctx: context.Background(), d: diskWith(image), fileSize: int64(len(image))}
	sum, found := 0, 0
	must(t, r.headers(func(_ frameHead, off int64, b []byte) bool {
		sum += len(b)
		if found < len(frames) && off == frames[found].off() {
			found++
		}
		return false
	}))
	if most := falseAtOnce + falseShare*len(image); sum > most || found != len(frames) {
		t.Errorf("a scan of %d bytes sums %d and finds %d frames, want at most %d, and %d frames", len(image), sum, found, most, len(frames))
	}
}

// A scan ends when its context does, at the next header.
func TestRepairCancelledScan(t *testing.T) {
	image, _ := hostileHeaders()
	ctx, cancel := context.WithCancel(context.Background())
	r := &salvage{ctx: ctx, d: diskWith(image), fileSize: int64(len(image))}
	calls := 0
	err := r.headers(func(frameHead, int64, []byte) bool {
		if calls++; calls == 3 {
			cancel()
		}
		return false
	})
	if !errors.Is(err, context.Canceled) || calls != 3 {
		t.Errorf("%v after %d headers, want %v after 3", err, calls, context.Canceled)
	}
}

// A frame whose payload is longer than any writer's is lost when only a scan finds it,
// and takes none of its neighbours along.
func TestRepairLongPayload(t *testing.T) {
	want := text(3*MinFrameSize, "good ")
	f := newForge()
	var entries []entry
	for n := range int64(3) {
		entries = append(entries, f.frame(kindLZ4, n, want[n*MinFrameSize:][:MinFrameSize]))
	}
	long := bytes.Repeat(encoded(kindGzip, nil), 300)
	long = append(long, encoded(kindGzip, text(MinFrameSize, "long "))...)
	f.sb.gen++
	f.put(kindGzip, 1, long, MinFrameSize)
	image := f.leaf(entries...).image()
	clear(image[:dataStart])
	clear(image[f.sb.root.off():][:frameHeadLen])
	clear(want[MinFrameSize : 2*MinFrameSize])
	got, _, losses, err := repaired(t, image)
	if err != nil || !bytes.Equal(got, want) || !reported(losses, Range{MinFrameSize, MinFrameSize}) {
		t.Errorf("repair: %d bytes, %v, losses %+v, want all but frame 1", len(got), err, losses)
	}
}

// So is one that decodes to more than a frame.
func TestRepairLongPlain(t *testing.T) {
	f := newForge()
	want := noise(2*MinFrameSize, 1)
	kept := f.frame(kindRaw, 0, want[:MinFrameSize])
	f.leaf(kept, f.frame(kindLZ4, 1, text(2*MinFrameSize, "long ")))
	image := f.image()
	clear(image[f.sb.root.off():][:frameHeadLen])
	clear(want[MinFrameSize:])
	got, _, losses, err := repaired(t, image)
	if err != nil || !bytes.Equal(got, want) || !reported(losses, Range{MinFrameSize, MinFrameSize}) {
		t.Errorf("repair: %d bytes, %v, losses %+v, want all but frame 1", len(got), err, losses)
	}
}

// What a scan keeps of headers that prove false is bounded by a small part of the file's
// size, with superblocks and without; frames are found all the same.
func TestRepairHostileMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	f := newForge()
	var entries []entry
	for n := range int64(3) {
		entries = append(entries, f.frame(kindRaw, n, noise(MinFrameSize, byte(n))))
	}
	for range 2 << 20 { // Each header lies in the payload of those before.
		f.b = binary.LittleEndian.AppendUint64(f.b, frameMagic|uint64(1+r.IntN(4))<<32|uint64(r.IntN(64))<<40)
	}
	image := f.leaf(append(entries, f.frame(kindRaw, 3, noise(MinFrameSize, 4)))...).image()
	clear(image[f.sb.root.off():][:frameHeadLen])
	for _, lost := range []string{"index", "superblocks and index"} {
		if lost != "index" {
			clear(image[:dataStart])
		}
		r := &salvage{ctx: context.Background(), d: bytesDisk{r: bytes.NewReader(image)}, fileSize: int64(len(image))}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		must(t, r.findState())
		must(t, r.scan())
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 2*uint64(len(image)) { // Garbage included.
			t.Errorf("without %s: a scan of %d bytes allocates %d", lost, len(image), took)
		}
		for n := range int64(4) {
			if p := r.found.frames[min(r.found.frame(n), len(r.found.frames)-1)]; p.number != n || p.bad {
				t.Errorf("without %s: frame %d is not found", lost, n)
			}
		}
	}
}

// A frame that the log makes a hole is one, and no loss; also where what lies at the
// beginning of the file has the header and the checksum of such a frame.
func TestRepairHoleOfLog(t *testing.T) {
	f := newForge()
	f.leaf(f.frame(kindLZ4, 0, text(4096, "fine ")), f.frame(kindLZ4, 1, text(4096, "gone ")), f.frame(kindLZ4, 2, text(4096, "fine ")))
	whole := f.log(logBlock{gen: 4, size: 3 * 4096, end: true, ops: []logOp{{opSet, 1, entry{}}}}).image()
	forged := bytes.Clone(whole)
	copy(forged[slotLen:dataStart], whole[:slotLen])
	e := entry{}
	b := forged[:e.stored()]
	putFrameHead(b, f.idSum, e.kind(), 1, 0)
	// The checksum's state behind byte 15, and the one from which it ends as that of e.
	before := crc32.Update(f.idSum, castagnoli, b[:16])
	after := seedOf(seedOf(e.sum(), b[frameHeadLen:]), make([]byte, 4))
	binary.LittleEndian.PutUint32(b[16:], before^after)
	binary.LittleEndian.PutUint32(b[20:], e.sum())
	must(t, verifyFrame(b, e, 1, f.idSum))
	for name, image := range map[string][]byte{"whole": whole, "forged": forged} {
		s, err := openImage(image)
		must(t, err)
		want, err := readAll(s)
		must(t, err)
		got, _, losses, err := repaired(t, image)
		if err != nil || !bytes.Equal(got, want) || len(losses) > 0 {
			t.Errorf("%s: %v, bytes right: %t, losses %+v, want none", name, err, bytes.Equal(got, want), losses)
		}
	}
}

// Frames that only a scan finds are visited in seconds, also where each is far from all
// others in an index of which nothing is left.
func TestRepairFarApart(t *testing.T) {
	alone(t)
	const count = 100_000
	f := newForge()
	r := rand.New(rand.NewPCG(1, 2))
	for range count {
		f.put(kindRaw, r.Int64N(maxFrameNumber), []byte("x"), 1)
	}
	image := f.image()
	clear(image[:dataStart])
	s := &salvage{ctx: context.Background(), d: bytesDisk{r: bytes.NewReader(image)}, fileSize: int64(len(image))}
	must(t, s.findState())
	visited := 0
	start := time.Now()
	must(t, s.walkAll(visit{
		frame: func(piece) error { visited++; return nil },
		blank: func(int64, int64, string) error { return nil },
	}))
	if took := time.Since(start); took > 10*time.Second || visited < count-10 {
		t.Errorf("%d frames of %d are visited in %v", visited, count, took)
	}
}
