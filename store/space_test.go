package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// spaceFault is what is wrong with the account of the space: that two extents
// share bytes, or that one lies in free space, or that what is live ends elsewhere.
func (s *Store) spaceFault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.space == nil {
		return nil
	}
	used := s.doomed()
	for _, l := range s.limbo {
		used = append(used, l.extent)
	}
	end := int64(dataStart)
	live := func(e entry) {
		used = append(used, e.extent())
		end = max(end, e.extent().end())
	}
	s.idx.scan(0, maxFrameNumber+1, func(_ int64, e entry) bool {
		if e.onDisk() {
			live(e)
		}
		return true
	})
	s.idx.nodes(func(_ int64, e entry) error {
		live(e)
		return nil
	})
	s.space.holes(1, func(e extent) bool {
		used = append(used, e)
		return true
	})
	written := len(s.frozen)+s.booked == 0 // No frame has a place and no entry yet.
	if got := s.liveEnd(); written && got != end {
		return fmt.Errorf("what is live ends at %#x, want %#x", got, end)
	}
	_, err := newAllocator(dataStart, used)
	return err
}

// Overwritten at random ten times over, a store's file stays below one and a half
// times what its frames take and 64 MiB more, without compaction; a reader that
// keeps an old generation lets it grow, by what is written meanwhile, and no
// more once it is gone; what is punched or cut off is given back to the disk.
func TestOverwrittenStaysSmall(t *testing.T) {
	alone(t)
	size, extra := int64(64<<20), int64(12<<20)
	if os.Getenv("LAZYFS_LONG") != "" {
		size, extra = 1<<30, 64<<20
	}
	o := newPageWriter(t, size)
	for pass := range 10 {
		o.overwrite(size)
		o.verify(o.s)
		file, disk, live := o.sizes()
		t.Logf("pass %d: file of %d bytes takes %d, frames %d", pass, file, disk, live)
		if limit := live*3/2 + extra; file > limit || disk > limit {
			t.Errorf("pass %d: file of %d bytes takes %d, want at most %d for frames of %d", pass, file, disk, limit, live)
		}
	}
	r, err := Open(o.path, Options{})
	must(t, err)
	seen := *o
	seen.versions = append([]uint16(nil), o.versions...)
	before, _, _ := o.sizes()
	frames := o.overwrite(size)
	seen.verify(r)
	must(t, r.Close())
	grown, _, live := o.sizes()
	if limit := before + live*frames/o.s.frameCount(size) + extra; grown > limit {
		t.Errorf("beside a reader the file grew from %d bytes to %d, want at most %d", before, grown, limit)
	}
	o.overwrite(size)
	o.verify(o.s)
	file, disk, live := o.sizes()
	t.Logf("beside a reader %d bytes grew to %d; when it was gone, %d, which take %d", before, grown, file, disk)
	if limit := live*3/2 + extra; file > grown+extra || disk > limit {
		t.Errorf("the reader is gone: file of %d bytes takes %d, want at most %d and %d", file, disk, grown+extra, limit)
	}
	for _, give := range []struct {
		name string
		do   func() error
		from int64
		to   int64
	}{
		{"punched", func() error { return o.s.Punch(size/4, size/2) }, size / 4, size / 4 * 3},
		{"cut", func() error { return o.s.Truncate(size / 8) }, size / 8, size},
	} {
		_, before, _ := o.sizes()
		must(t, give.do())
		clear(o.versions[give.from/PageSize : give.to/PageSize])
		must(t, o.s.Sync())
		_, disk, live := o.sizes()
		t.Logf("%s: takes %d for frames of %d", give.name, disk, live)
		if limit := live*3/2 + extra; disk > limit || disk > before {
			t.Errorf("%s: the file takes %d bytes, want at most %d for frames of %d, and %d before", give.name, disk, limit, live, before)
		}
	}
	o.versions = o.versions[:size/8/PageSize]
	o.verify(o.s)
	must(t, o.s.Close())
	if _, disk, live := o.sizes(); disk > live*3/2+64<<10 {
		t.Errorf("closed: the file takes %d bytes for frames of %d", disk, live)
	}
}

// A pageWriter writes pages that tell which they are, and which version.
type pageWriter struct {
	t        *testing.T
	r        *rand.Rand
	path     string
	s        *Store
	versions []uint16 // of each page, 0 for zeros
	noise    []byte
}

func newPageWriter(t *testing.T, size int64) *pageWriter {
	o := &pageWriter{t: t, r: rand.New(rand.NewPCG(randomSeed(t), 0)), path: filepath.Join(t.TempDir(), "s.lazy"),
		versions: make([]uint16, size/PageSize), noise: make([]byte, 1<<20)}
	for i := range o.noise {
		o.noise[i] = byte(o.r.Uint32())
	}
	var err error
	o.s, err = Create(o.path, CreateOptions{})
	must(t, err)
	t.Cleanup(func() { o.s.Discard() })
	for from := 0; from < len(o.versions); from += 64 {
		o.write(from, min(len(o.versions), from+64))
	}
	must(t, o.s.Sync())
	return o
}

// page fills b with a version of a page: a part of it, other for each, is noise.
func (o *pageWriter) page(b []byte, n int, version uint16) {
	clear(b)
	if version == 0 {
		return
	}
	h := (uint64(n)<<16 | uint64(version)) * 0x9e3779b97f4a7c15
	copy(b, o.noise[h>>45:][:h>>20%PageSize])
	binary.LittleEndian.PutUint64(b, uint64(n)<<16|uint64(version))
}

func (o *pageWriter) write(from, to int) {
	o.t.Helper()
	b := make([]byte, (to-from)*PageSize)
	for n := from; n < to; n++ {
		o.versions[n]++
		o.page(b[(n-from)*PageSize:][:PageSize], n, o.versions[n])
	}
	_, err := o.s.WriteAt(b, int64(from)*PageSize)
	must(o.t, err)
}

// overwrite writes so many bytes at random, with a Sync behind every 64th of the
// store. It returns how many frames it wrote, a part of each or all.
func (o *pageWriter) overwrite(bytes int64) (frames int64) {
	o.t.Helper()
	each := int64(len(o.versions)) * PageSize / 64
	for next := bytes - each; bytes > 0; {
		from := o.r.IntN(len(o.versions))
		to := min(len(o.versions), from+1+o.r.IntN(16))
		o.write(from, to)
		frames += o.s.frameCount(int64(to)*PageSize) - int64(from)*PageSize>>o.s.shift
		if bytes -= int64(to-from) * PageSize; bytes <= next {
			next -= each
			must(o.t, o.s.Sync())
		}
	}
	must(o.t, o.s.Sync())
	return frames
}

func (o *pageWriter) verify(s *Store) {
	o.t.Helper()
	got, want := make([]byte, 256*PageSize), make([]byte, PageSize)
	for n := range o.versions {
		in := n % 256 * PageSize
		if in == 0 {
			if _, err := s.ReadAt(got[:min(len(got), (len(o.versions)-n)*PageSize)], int64(n)*PageSize); err != nil {
				o.t.Fatal(err)
			}
		}
		o.page(want, n, o.versions[n])
		if string(got[in:in+PageSize]) != string(want) {
			o.t.Fatalf("page %d begins with %x, want %x, and is wrong", n, got[in:in+16], want[:16])
		}
	}
}

// sizes are those of the file, of what it takes on the disk, and of the frames.
func (o *pageWriter) sizes() (file, disk, live int64) {
	o.t.Helper()
	var st unix.Stat_t
	must(o.t, unix.Stat(o.path, &st))
	s, err := Open(o.path, Options{})
	must(o.t, err)
	defer s.Close()
	return st.Size, st.Blocks * 512, s.stored
}

// A Sync or Close of what was synced already writes no commit.
func TestSyncTwice(t *testing.T) {
	f := tempFile(t)
	s, err := CreateFile(f, CreateOptions{FrameSize: 4 << 10})
	must(t, err)
	defer s.Discard()
	_, err = s.WriteAt(noise(100<<10, 1), 0)
	must(t, err)
	must(t, s.Sync())
	gen := s.Generation()
	must(t, s.Sync())
	must(t, s.Commit())
	if now := s.Generation(); now != gen {
		t.Errorf("generation is %d after a Sync without changes, want %d", now, gen)
	}
}
