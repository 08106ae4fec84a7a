package store

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
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
