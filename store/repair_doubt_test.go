package store

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"lazyfs/codec"
)

// What a commit wrote twice, or made a hole again, lies in the file as of that commit
// all the same: where the index is lost a scan can't vouch for it.
func TestRepairOvertakenFrames(t *testing.T) {
	const frames = 100
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, []byte("small"), 0) // The next commit is no record of the log.
	must(t, s.Close())
	s, err = openDisk(d, nil, Options{Writable: true})
	must(t, err)
	want := make([]byte, frames*MinFrameSize)
	must(t, s.Truncate(int64(len(want))))
	write := func(n int, p []byte) {
		b := want[n*MinFrameSize:][:MinFrameSize]
		clear(b[copy(b, p):])
		must(t, s.WriteFrame(int64(n), b))
	}
	for n := range frames {
		write(n, noise(1000, byte(n)))
	}
	write(1, noise(1500, frames))
	must(t, s.Punch(4*MinFrameSize, MinFrameSize))
	clear(want[4*MinFrameSize:][:MinFrameSize])
	must(t, s.Close())
	s, err = openImage(d.now)
	must(t, err)
	image := bytes.Clone(d.now)
	clear(image[s.idx.at.off():][:frameHeadLen])
	got, _, losses, err := repaired(t, image)
	must(t, err)
	for n := range frames {
		r := Range{int64(n) * MinFrameSize, MinFrameSize}
		if right := bytes.Equal(got[r.Off:][:r.Len], want[r.Off:][:r.Len]); !right && !reported(losses, r) {
			t.Errorf("frame %d holds other bytes, and no loss of %+v tells", n, losses)
		}
	}
}

// reported tells whether one of the losses covers r.
func reported(losses []Loss, r Range) bool {
	for _, l := range losses {
		if l.Plain.Off <= r.Off && r.Off+r.Len <= l.Plain.Off+l.Plain.Len {
			return true
		}
	}
	return false
}

// Frames of a store within a damaged frame take the place of none of the store around it,
// and tell nothing of its size.
func TestRepairNestedDamage(t *testing.T) {
	inner := breakable(t, "punched").image
	f := tempFile(t)
	_, err := Pack(context.Background(), f, bytes.NewReader(inner), PackOptions{CreateOptions: CreateOptions{Codec: codec.Raw}})
	must(t, err)
	whole, err := os.ReadFile(f.Name())
	must(t, err)
	clear(whole[:dataStart])
	for n := int64(2); n < int64(len(inner))/DefaultFrameSize; n += 20 {
		image, lost := bytes.Clone(whole), Range{n * DefaultFrameSize, DefaultFrameSize}
		image[bytes.Index(image, inner[lost.Off:][:lost.Len])] ^= 1
		got, _, losses, err := repaired(t, image)
		must(t, err)
		want := bytes.Clone(inner)
		clear(want[lost.Off:][:lost.Len])
		if !bytes.Equal(got[:len(want)], want) || len(got) > len(want)+DefaultFrameSize || len(losses) != 2 || losses[1].Plain != lost {
			t.Errorf("repair: %d bytes, want %d, and a loss of %v: %+v", len(got), len(want), lost, losses)
		}
	}
}

// What the log makes holes is known to be holes, also where the index is lost.
func TestRepairClearedByLog(t *testing.T) {
	f := newForge()
	fine, gone := f.frame(kindLZ4, 0, text(4096, "fine ")), f.frame(kindLZ4, 1, text(4096, "gone "))
	f.leaf(fine, gone, entry{}, f.frame(kindLZ4, 3, text(4096, "fine ")))
	image := f.log(logBlock{gen: 4, size: 4 * 4096, end: true, ops: []logOp{{opClear, 1, entry{place: 1}}}}).image()
	image[gone.off()]++ // Its space was used again.
	image[f.sb.root.off()+frameHeadLen]++
	_, _, losses, err := repaired(t, image)
	must(t, err)
	for _, l := range losses {
		if l.Plain.Off <= 4096 && 4096 < l.Plain.Off+l.Plain.Len {
			t.Errorf("loss %+v, want none of the frame at 4096", l)
		}
	}
	if len(losses) != 3 {
		t.Errorf("losses %+v, want three: the frames that were found, and the one that was not", losses)
	}
}

// Where frames were written after the index that is found, all of it is doubted, also
// when there are as many as the superblock says that is left, and they tell the size.
func TestRepairWrittenAfterIndex(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	all := noise(21*MinFrameSize, 1)
	want := all[:20*MinFrameSize]
	for range 2 {
		mustWrite(t, s, want, 0)
		must(t, s.checkpointNow())
	}
	for _, c := range []struct {
		what     string
		from, to int // of the superblocks
		write    int // this frame
	}{
		{"newer superblock", s.slot * slotLen, (s.slot + 1) * slotLen, 3},
		{"superblocks", 0, dataStart, 20},
	} {
		b := all[c.write*MinFrameSize:][:MinFrameSize]
		b[0]++
		want = all[:max(len(want), (c.write+1)*MinFrameSize)]
		mustWrite(t, s, b, int64(c.write)*MinFrameSize)
		must(t, s.Sync())
		image := bytes.Clone(d.now)
		clear(image[c.from:c.to])
		got, _, losses, err := repaired(t, image)
		doubt := func(l Loss) bool { return l.Kept && l.Plain == Range{0, int64(len(want))} }
		if err != nil || !bytes.Equal(got, want) || !slices.ContainsFunc(losses, doubt) {
			t.Errorf("%s lost: %v, %d bytes, want %d, as written: %v, losses %+v", c.what, err, len(got), len(want), bytes.Equal(got, want), losses)
		}
	}
}

// Without superblocks nothing tells of a frame that the log made zeros, so that is said.
func TestRepairZeroedAfterIndex(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(20*MinFrameSize, 1), 0)
	must(t, s.checkpointNow())
	mustWrite(t, s, make([]byte, MinFrameSize), 3*MinFrameSize)
	must(t, s.Punch(5*MinFrameSize, MinFrameSize))
	must(t, s.Sync())
	clear(d.now[:dataStart])
	_, _, losses, err := repaired(t, d.now)
	if err != nil || len(losses) != 1 || !losses[0].Kept || losses[0].Plain != (Range{}) || !strings.Contains(losses[0].Cause, "zeros") {
		t.Errorf("repair: %v, losses %+v, want a doubt about zeros", err, losses)
	}
}

// What an older node of the index names is doubted, zeros too, and so are its holes.
func TestRepairOlderLeaf(t *testing.T) {
	f := newForge()
	f.sb.gen = 2
	want := append(noise(MinFrameSize, 1), make([]byte, 2*MinFrameSize)...)
	f.node(0, 0, f.put(kindRaw, 0, want[:MinFrameSize], MinFrameSize), entry{}, zeroEntry)
	lost := len(f.b)
	f.sb.gen = 3
	var entries []entry
	for n := range int64(3) {
		entries = append(entries, f.frame(kindRaw, n, noise(MinFrameSize, byte(2+n))))
	}
	image := f.root(1, f.node(1, 0, f.node(0, 0, entries...)), int64(len(want))).image()
	clear(image[lost:])
	got, _, losses, err := repaired(t, image)
	if err != nil || !bytes.Equal(got, want) || len(losses) != 3 || !slices.EqualFunc(losses, frameRanges(0, 1, 2),
		func(l Loss, r Range) bool { return l.Plain == r && l.Kept == (r.Off != MinFrameSize) }) {
		t.Errorf("repair: %d bytes, %v, losses %+v, want two doubts and a hole", len(got), err, losses)
	}
}

// A frame of no kind that there is, with a checksum that is right, takes the place of none.
func TestRepairUnknownKinds(t *testing.T) {
	for _, k := range []kind{kindHole, kindGzip + 1, kindZero, kindInline, kindNode - 1, kindNode + maxDepth, 0xff} {
		f := newForge()
		want := noise(MinFrameSize, 1)
		f.leaf(f.frame(kindRaw, 0, want))
		f.sb.gen++
		f.put(k, 0, want[:entryLen], entryLen)
		image := f.image()
		clear(image[:dataStart])
		if got, _, _, err := repaired(t, image); err != nil || !bytes.Equal(got, want) {
			t.Errorf("kind %#x: %d bytes, %v, want %d", uint8(k), len(got), err, len(want))
		}
	}
}

// Where a leaf is lost with all its frames, these are lost also when others follow.
func TestRepairLostLeaf(t *testing.T) {
	f := newForge()
	f.frame(kindRaw, 0, noise(MinFrameSize, 1))
	first := f.node(0, 0, f.frame(kindRaw, 1, noise(MinFrameSize, 2)))
	found := len(f.b)
	plain := noise(MinFrameSize, 3)
	second := f.node(0, fanout, f.frame(kindRaw, fanout, plain))
	image := f.root(1, f.node(1, 0, first, second), (fanout+1)*MinFrameSize).image()
	clear(image[dataStart:found])
	clear(image[f.sb.root.off():])
	got, _, losses, err := repaired(t, image)
	if err != nil || !bytes.Equal(got, append(make([]byte, fanout*MinFrameSize), plain...)) || len(losses) != 2 ||
		losses[0].Plain != (Range{0, fanout * MinFrameSize}) || losses[0].Kept {
		t.Errorf("repair: %d bytes, %v, losses %+v", len(got), err, losses)
	}
}
