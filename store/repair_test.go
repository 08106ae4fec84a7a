package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"lazyfs/codec"
)

// Whatever part of a store is damaged, Repair gets back all that can be read, names
// exactly the frames that can't, which are holes then, and says what it can't
// vouch for. A lost index alone costs no bytes.
func TestRepair(t *testing.T) {
	alone(t)
	b := breakable(t, "closed")
	for _, c := range []struct {
		name   string
		damage func(image []byte)
		lost   []Range
		doubt  string // what a loss says of the store as a whole
	}{
		{"nothing", func([]byte) {}, nil, ""},
		{"first superblock", func(m []byte) { clear(m[:slotLen]) }, nil, ""},
		{"second superblock", func(m []byte) { clear(m[slotLen:dataStart]) }, nil, ""},
		{"root", b.root, nil, ""},
		{"leaf", func(m []byte) { b.leaf(m, 1500) }, nil, ""},
		{"all leaves", func(m []byte) { b.leaf(m, 0); b.leaf(m, 1500); b.leaf(m, 2100) }, nil, ""},
		{"index", func(m []byte) { b.root(m); b.leaf(m, 0); b.leaf(m, 1500); b.leaf(m, 2100) }, nil, ""},
		{"payloads", func(m []byte) { b.payload(m, 11); b.payload(m, 12); b.header(m, 2599) }, append(frameRanges(11, 12), Range{2599 * 4096, 4096 - 1000}), ""},
		{"leaf and payload in it", func(m []byte) { b.leaf(m, 1500); b.payload(m, 1501); b.payload(m, 20) }, frameRanges(20, 1501), ""},
		{"root and payload", func(m []byte) { b.root(m); b.payload(m, 20) }, frameRanges(20), ""},
		{"superblocks", b.slots, nil, "superblocks are lost: frames of 4096 bytes, and 10648600 bytes"},
		{"superblocks and payload", func(m []byte) { b.slots(m); b.payload(m, 20) }, frameRanges(20), "superblocks are lost"},
	} {
		image := bytes.Clone(b.image)
		c.damage(image)
		got, info, losses, err := repaired(t, image)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		want := bytes.Clone(b.want)
		var lost []Range
		doubt := ""
		for _, l := range losses {
			if l.Plain.Len == 0 {
				doubt = l.Cause
				continue
			}
			if l.Kept && strings.HasSuffix(l.Cause, agrees) {
				continue
			}
			if l.Kept {
				t.Errorf("%s: doubts %+v", c.name, l)
			}
			lost = append(lost, l.Plain)
			clear(want[l.Plain.Off:][:l.Plain.Len])
		}
		if !slices.Equal(lost, c.lost) || !strings.HasPrefix(doubt, c.doubt) || (c.doubt == "") != (doubt == "") {
			t.Errorf("%s: losses are %+v, want %v and %q", c.name, losses, c.lost, c.doubt)
		}
		if !bytes.Equal(got, want) || info.Size != int64(len(want)) {
			t.Errorf("%s: the new store of %d bytes holds other bytes, want %d", c.name, len(got), len(want))
		}
	}
}

// What is not certain is said to be so: bytes outside of what is reported are
// right, what is reported as lost is a hole, and what is doubted is as it once was.
func TestRepairDoubts(t *testing.T) {
	b := breakable(t, "punched")
	frame := b.frames[1501]
	for name, damage := range map[string]func(image []byte) []byte{
		"leaf and header in it": func(m []byte) []byte { b.leaf(m, 1500); b.header(m, 1501); return m },
		"index and header":      func(m []byte) []byte { b.root(m); b.leaf(m, 1500); b.header(m, 1501); return m },
		"superblocks and root":  func(m []byte) []byte { b.slots(m); b.root(m); return m },
		"half of the file":      func(m []byte) []byte { return m[:len(m)/2] },
		"two thirds, no superblock": func(m []byte) []byte {
			b.slots(m)
			return m[:frame.off()+100]
		},
	} {
		got, _, losses, err := repaired(t, damage(bytes.Clone(b.image)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b.judge(t, name, got, losses)
		if !slices.ContainsFunc(losses, func(l Loss) bool { return l.Plain.Len > 0 }) {
			t.Errorf("%s: no range is reported", name)
		}
	}
}

// A store that was not closed is repaired to its last commit, also when the newer
// superblock is lost; without its log it is as it was before, as for any reader.
func TestRepairUnclosed(t *testing.T) {
	b := breakable(t, "unclosed")
	got, _, losses, err := repaired(t, b.image)
	if err != nil || len(losses) > 0 || !bytes.Equal(got, b.want) {
		t.Errorf("repair of a whole store: %v, losses %+v, bytes right: %v", err, losses, bytes.Equal(got, b.want))
	}
	image := bytes.Clone(b.image)
	b.leaf(image, 0)
	b.leaf(image, 2000)
	got, _, losses, err = repaired(t, image)
	must(t, err)
	b.judge(t, "leaves", got, losses)
	image = bytes.Clone(b.image)
	clear(image[b.logs[len(b.logs)-1]:][:logBlockLen])
	s, err := openImage(bytes.Clone(image))
	must(t, err)
	want, err := readAll(s)
	must(t, err)
	got, _, losses, err = repaired(t, image)
	if err != nil || len(losses) > 0 || !bytes.Equal(got, want) {
		t.Errorf("log: %v, losses %+v, bytes as a reader sees them: %v", err, losses, bytes.Equal(got, want))
	}
	image = bytes.Clone(b.image)
	b.slots(image)
	got, _, losses, err = repaired(t, image)
	must(t, err)
	n := 2000 * MinFrameSize
	if !bytes.Equal(got[n:n+MinFrameSize], b.want[n:n+MinFrameSize]) || len(losses) == 0 {
		t.Errorf("superblocks: the frame of the last commit is not found; losses %+v", losses)
	}
	b.judge(t, "superblocks", got, losses)
}

// Where the index is lost, what was written and never committed takes the place of
// nothing, also when one superblock is lost that was not the newer one.
func TestRepairUncommitted(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := noise(20*MinFrameSize, 1)
	mustWrite(t, s, want, 0)
	must(t, s.checkpointNow())
	mustWrite(t, s, noise(MinFrameSize, 2), 3*MinFrameSize)
	must(t, s.flushTo(0))
	for _, lost := range []int{0, slotLen} {
		image := bytes.Clone(d.now)
		clear(image[s.idx.at.off():][:frameHeadLen])
		clear(image[(1-s.slot)*slotLen:][:lost])
		if got, _, losses, err := repaired(t, image); err != nil || !bytes.Equal(got, want) || len(losses) == 0 {
			t.Errorf("%d bytes of the other superblock lost: %v, bytes as committed: %v, losses %+v", lost, err, bytes.Equal(got, want), losses)
		}
	}
}

// Where a part of the log can't be read the commits before it count, and where a frame
// of its last commit can't, only that is lost.
func TestRepairUnreadableLog(t *testing.T) {
	b := breakable(t, "unclosed")
	frame := b.frames[2000]
	for _, c := range []struct {
		name string
		bad  span
		lost []Range
	}{
		{"block", span{b.logs[2], b.logs[2] + logBlockLen}, nil},
		{"frame", span{frame.off() + 5, frame.off() + 6}, frameRanges(2000)},
	} {
		want := bytes.Clone(b.want)
		if c.lost != nil {
			clear(want[c.lost[0].Off:][:MinFrameSize])
		} else {
			image := bytes.Clone(b.image)
			clear(image[c.bad.from:c.bad.to])
			s, err := openImage(image)
			must(t, err)
			want, err = readAll(s)
			must(t, err)
		}
		dst := memoryFile(t, nil)
		defer dst.Close()
		var lost, doubts []Range
		r := &salvage{ctx: context.Background(), d: &brokenDisk{diskWith(b.image), c.bad}, report: func(l Loss) {
			if l.Kept {
				doubts = append(doubts, l.Plain)
			} else {
				lost = append(lost, l.Plain)
			}
		}}
		_, err := r.run(dst)
		must(t, err)
		s, err := Open(dst.Name(), Options{})
		must(t, err)
		defer s.Close()
		got, err := readAll(s)
		if err != nil || !bytes.Equal(got, want) || !slices.Equal(lost, c.lost) || !slices.Equal(doubts, []Range{{}}) {
			t.Errorf("%s can't be read: %v, bytes as wanted: %v, lost %v, want %v, doubts %v, want one of the store",
				c.name, err, bytes.Equal(got, want), lost, c.lost, doubts)
		}
	}
}

// Where one superblock is lost it may have been the newer one, which what else is found
// tells: nothing of the state before that passes for the newest.
func TestRepairLostSuperblock(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(100, 0), 0)
	must(t, s.Sync()) // It lies in its superblock.
	for i := range byte(2) {
		want := noise(20*MinFrameSize, 1+i)
		mustWrite(t, s, want, 0)
		must(t, s.checkpointNow())
		for slot := range 3 { // The third is none of the two.
			image := bytes.Clone(d.now)
			clear(image[slot*slotLen : min(slot+1, 2)*slotLen])
			got, _, losses, err := repaired(t, image)
			if err != nil || !bytes.Equal(got, want) || (len(losses) > 0) != (slot == s.slot) {
				t.Errorf("superblock %d lost, %d is the newer one: %v, bytes right: %v, losses %+v", slot, s.slot, err, bytes.Equal(got, want), losses)
			}
		}
	}
}

// Small stores: those of one frame need no superblock, those within the superblock
// one of the two; what is no store is refused.
func TestRepairSmall(t *testing.T) {
	for _, c := range damageCases(t) {
		if c.name == "levels" {
			continue // Of 20 GiB.
		}
		want := make([]byte, c.size)
		for off, p := range c.parts {
			copy(want[off:], p)
		}
		for i := range 3 {
			image := bytes.Clone(c.image)
			if i != 1 {
				clear(image[:slotLen])
			}
			if i != 0 {
				clear(image[slotLen:dataStart])
			}
			got, _, losses, err := repaired(t, image)
			if i == 2 && len(image) == dataStart {
				if !errors.Is(err, ErrNotStore) {
					t.Errorf("%s: without superblocks: %v, want ErrNotStore", c.name, err)
				}
				continue
			}
			if i == 2 && c.name == "holes" { // It ends with a frame of zeros, whose length is lost.
				got = got[:len(want)]
			}
			if err != nil || !bytes.Equal(got, want) || (len(losses) > 0) != (i == 2) {
				t.Errorf("%s, superblock %d lost: %d bytes, want %d, losses %v, %v", c.name, i, len(got), len(want), losses, err)
			}
		}
	}
	for _, junk := range [][]byte{nil, []byte("x"), text(100_000, "no store "), make([]byte, 5000)} {
		if _, _, _, err := repaired(t, junk); !errors.Is(err, ErrNotStore) {
			t.Errorf("repair of %d bytes that are no store: %v, want ErrNotStore", len(junk), err)
		}
	}
	version2 := newForge().image()
	for _, slot := range [][]byte{version2[:slotLen], version2[slotLen:]} {
		slot[8] = 2
		resum(slot)
	}
	if _, _, _, err := repaired(t, version2); !errors.Is(err, ErrVersion) {
		t.Errorf("repair of a later version: %v, want ErrVersion", err)
	}
}

// Of an older, longer form of the last frame, found where the newest is lost, the new
// store has no more than what the plain size leaves.
func TestRepairLongerFrame(t *testing.T) {
	const size, left = 5*MinFrameSize - 500, 1000
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := noise(size, 1)
	mustWrite(t, s, want, 0)
	must(t, s.Sync())
	want = want[:4*MinFrameSize+left]
	must(t, s.Truncate(int64(len(want))))
	must(t, s.Close())
	s, err = openImage(d.now)
	must(t, err)
	last, err := s.idx.lookup(4)
	must(t, err)
	image := bytes.Clone(d.now)
	clear(image[last.off():][:frameHeadLen])
	clear(image[s.idx.at.off():][:frameHeadLen])
	got, _, losses, err := repaired(t, image)
	if err != nil || len(losses) != 1 || !losses[0].Kept || !bytes.Equal(got, want) {
		t.Errorf("repair: %d bytes, want %d, losses %v, %v", len(got), len(want), losses, err)
	}
}

// A frame whose number is that of no frame of a store, since its offset overflows, takes
// the place of none.
func TestRepairFarFrame(t *testing.T) {
	const far = 1 << 44
	want := text(MaxFrameSize, "near ")
	f := newForge()
	f.sb.frameShift = 20
	near, ghost := f.frame(kindLZ4, 0, want), f.frame(kindLZ4, far, text(MaxFrameSize, "far "))
	for level := range 4 {
		near, ghost = f.node(level, 0, near), f.node(level, far, ghost)
	}
	top := make([]entry, far>>(4*fanoutBits)+1)
	top[0], top[len(top)-1] = near, ghost
	image := f.root(4, f.node(4, 0, top...), MaxFrameSize).image()
	got, _, _, err := repaired(t, image)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("repair: %d bytes, %v, want %d", len(got), err, len(want))
	}
	clear(image[:dataStart])
	src, dst := memoryFile(t, image), memoryFile(t, nil)
	defer src.Close()
	defer dst.Close()
	info, err := Repair(context.Background(), dst, src, func(Loss) {}, nil)
	must(t, err)
	s, err := Open(dst.Name(), Options{})
	must(t, err)
	defer s.Close()
	for _, d := range checked(t, s) {
		t.Errorf("without superblocks: %v", d)
	}
	got = make([]byte, len(want))
	if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) || info.Size != MaxSize {
		t.Errorf("without superblocks: %d bytes whose beginning is read with %v, want %d", info.Size, err, MaxSize)
	}
}

// A store whose plain bytes are a store is not taken for that one when its
// superblocks are lost.
func TestRepairNested(t *testing.T) {
	inner := breakable(t, "punched").image
	f := tempFile(t)
	_, err := Pack(context.Background(), f, bytes.NewReader(inner), PackOptions{CreateOptions: CreateOptions{Codec: codec.Raw}})
	must(t, err)
	image, err := os.ReadFile(f.Name())
	must(t, err)
	clear(image[:dataStart])
	got, info, losses, err := repaired(t, image)
	if err != nil || len(losses) != 1 || info.FrameSize != DefaultFrameSize || !bytes.Equal(got[:len(inner)], inner) {
		t.Errorf("repair: %+v, losses %v, %v", info, losses, err)
	}
}
