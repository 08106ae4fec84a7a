package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
)

// A broken is a store to be damaged, and what lies where.
type broken struct {
	image  []byte
	want   []byte
	sb     superblock
	frames map[int64]entry
	nodes  []piece // children before their parents
	logs   []int64
}

// breakable makes a store of several leaves with holes, zeros and several codecs,
// of which a part was overwritten, so that older frames lie about in it. It was
// closed, closed after a part was punched, too, or not closed.
func breakable(t *testing.T, how string) *broken {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 8))
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	b := &broken{want: make([]byte, 2600*MinFrameSize-1000), frames: map[int64]entry{}}
	put := func(i int, p []byte) {
		off := i * MinFrameSize
		n := copy(b.want[off:], p)
		mustWrite(t, s, p[:n], int64(off))
	}
	punch := func(i, n int) {
		clear(b.want[i*MinFrameSize:][:n*MinFrameSize])
		must(t, s.Punch(int64(i)*MinFrameSize, int64(n)*MinFrameSize))
	}
	for i := range 2600 {
		switch {
		case i%50 == 3: // A hole.
		case i%50 == 7:
			put(i, make([]byte, MinFrameSize))
		default:
			put(i, compactFrame(r, MinFrameSize))
		}
	}
	must(t, s.Close())
	s, err = openDisk(d, nil, Options{Writable: true, Codec: codec.Zstd})
	must(t, err)
	for range 300 {
		put(r.IntN(2600), compactFrame(r, MinFrameSize))
	}
	if how != "closed" {
		punch(100, 5)
	}
	must(t, s.Sync())
	if how == "unclosed" {
		must(t, s.Sync())
		put(2000, compactFrame(r, MinFrameSize))
		punch(110, 1)
		must(t, s.Sync())
		b.logs = s.logBlocks
	} else {
		must(t, s.Close())
	}
	b.image = bytes.Clone(d.now)
	b.look(t)
	return b
}

// look finds what lies where.
func (b *broken) look(t *testing.T) {
	s, err := openImage(bytes.Clone(b.image))
	must(t, err)
	b.sb = s.sb
	must(t, s.idx.scan(0, maxFrameNumber+1, func(n int64, e entry) bool {
		if e.onDisk() {
			b.frames[n] = e
		}
		return true
	}))
	must(t, s.idx.nodes(func(first int64, e entry) error {
		b.nodes = append(b.nodes, indexed(first, e))
		return nil
	}))
}

// leaf damages the leaf that covers frame n.
func (b *broken) leaf(image []byte, n int64) {
	for _, p := range b.nodes {
		if p.kind == kindNode && p.number>>fanoutBits == n>>fanoutBits {
			image[p.off+60] ^= 1
		}
	}
}

func (b *broken) root(image []byte) {
	p := b.nodes[len(b.nodes)-1]
	clear(image[p.off : p.off+frameHeadLen+int64(p.payload)])
}

func (b *broken) slots(image []byte) { clear(image[:dataStart]) }

// payload changes a byte of a frame, header one of what describes it.
func (b *broken) payload(image []byte, n int64) { image[b.frames[n].off()+frameHeadLen+9] ^= 0x20 }
func (b *broken) header(image []byte, n int64)  { clear(image[b.frames[n].off():][:frameHeadLen]) }

// repaired repairs a damaged image and returns the new store's bytes, its
// description, and the losses.
func repaired(t *testing.T, image []byte) ([]byte, Info, []Loss, error) {
	t.Helper()
	src, dst := memoryFile(t, image), memoryFile(t, nil)
	defer src.Close()
	defer dst.Close()
	var losses []Loss
	info, err := Repair(context.Background(), dst, src, func(l Loss) { losses = append(losses, l) }, nil)
	if now, _ := os.ReadFile(src.Name()); !bytes.Equal(now, image) {
		t.Error("repair changed the damaged file")
	}
	if err != nil {
		return nil, info, losses, err
	}
	s, err := Open(dst.Name(), Options{})
	must(t, err)
	defer s.Close()
	for _, d := range checked(t, s) {
		t.Errorf("the new store is damaged: %v", d)
	}
	got, err := readAll(s)
	must(t, err)
	return got, info, losses, nil
}

// memoryFile is a file in memory with these bytes.
func memoryFile(t *testing.T, b []byte) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("store", unix.MFD_CLOEXEC)
	must(t, err)
	f := os.NewFile(uintptr(fd), fmt.Sprintf("/proc/self/fd/%d", fd))
	_, err = f.Write(b)
	must(t, err)
	return f
}

// frameRanges are the plain ranges of single frames.
func frameRanges(numbers ...int64) (all []Range) {
	for _, n := range numbers {
		all = append(all, Range{n * MinFrameSize, MinFrameSize})
	}
	return all
}

// Whatever part of a store is damaged, Repair gets back all that can be read, names
// exactly the frames that can't, which are holes then, and says what it can't
// vouch for. A lost index alone costs no bytes.
func TestRepair(t *testing.T) {
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

// judge compares a repaired store with what is reported about it.
func (b *broken) judge(t *testing.T, name string, got []byte, losses []Loss) {
	t.Helper()
	want := bytes.Clone(b.want)
	guessed := false
	for _, l := range losses {
		r := l.Plain
		guessed = guessed || r.Len == 0
		end := min(r.Off+r.Len, int64(len(got)), int64(len(want)))
		switch {
		case r.Off >= end:
		case l.Kept:
			copy(want[r.Off:end], got[r.Off:end])
		default:
			clear(want[r.Off:end])
		}
	}
	if guessed { // The size may be too small.
		want = want[:min(len(want), len(got))]
	}
	if !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("%s: %d bytes, want %d; wrong from %#x on, which is not reported: %d losses", name, len(got), len(want), at, len(losses))
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

// However a store is damaged at random, Repair either refuses it or writes a store
// that holds right bytes wherever it reports nothing.
func TestRepairStorm(t *testing.T) {
	seed := rand.Uint64()
	if v := os.Getenv("LAZYFS_SEED"); v != "" {
		fmt.Sscan(v, &seed)
	}
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	b := breakable(t, "punched")
	runs := 15
	if os.Getenv("LAZYFS_LONG") != "" {
		runs = 500
	}
	for i := range runs {
		image := bytes.Clone(b.image)
		for range 1 + r.IntN(8) {
			at, n := r.IntN(len(image)), 1+r.IntN(20_000)
			if r.IntN(4) == 0 {
				at = int(b.nodes[r.IntN(len(b.nodes))].off) // Nodes are few.
			}
			part := image[at:min(at+n, len(image))]
			switch r.IntN(3) {
			case 0:
				clear(part)
			case 1:
				part[0] ^= 1 << r.IntN(8)
			default:
				copy(part, image[r.IntN(len(image)):])
			}
		}
		got, _, losses, err := repaired(t, image)
		if err != nil {
			t.Fatalf("storm %d: %v", i, err)
		}
		b.judge(t, fmt.Sprintf("storm %d", i), got, losses)
	}
}

// Stores made to mislead are repaired or refused, like any other.
func TestRepairHostile(t *testing.T) {
	for _, list := range [][]hostile{hostileFrames(), hostileEntries(), hostileIndexes(), hostileSuperblocks()} {
		for _, h := range list {
			_, _, _, err := repaired(t, h.forge.image())
			if e := expectedDamage(h.name, err); e != nil {
				t.Error(e)
			}
		}
	}
}

// A store that a writer has is not repaired under its hands.
func TestRepairLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	s, err := Create(path, CreateOptions{})
	must(t, err)
	defer s.Discard()
	src, err := os.Open(path)
	must(t, err)
	defer src.Close()
	if _, err := Repair(context.Background(), tempFile(t), src, nil, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("repair beside a writer: %v, want ErrLocked", err)
	}
}
