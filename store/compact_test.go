package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
)

// compactFrame is a frame of which a part, as said by r, does not compress.
func compactFrame(r *rand.Rand, size int) []byte {
	p := make([]byte, size)
	noise := 1 + r.IntN(size)
	for i := range p {
		p[i] = byte(i >> 6)
		if i < noise {
			p[i] = byte(r.Uint32())
		}
	}
	return p
}

// fragment makes the store at path, whose free space lies in many pieces, and
// returns its plain bytes.
func fragment(t *testing.T, path, how string, frames int) []byte {
	t.Helper()
	const size = MinFrameSize
	r := rand.New(rand.NewPCG(1, 2))
	s, err := Create(path, CreateOptions{FrameSize: size})
	must(t, err)
	want := make([]byte, frames*size)
	put := func(i int, p []byte) {
		copy(want[i*size:], p)
		mustWrite(t, s, p, int64(i)*size)
	}
	punch := func(i int) {
		clear(want[i*size:][:size])
		must(t, s.Punch(int64(i)*size, size))
	}
	for i := range frames {
		p := compactFrame(r, size)
		if how == "small gaps" && i%2 == 1 && i < frames*2/3 {
			p = append(make([]byte, size-900), p[:900]...) // Too small for any other.
		} else if how == "small gaps" {
			for j := range p {
				p[j] = byte(r.Uint32())
			}
		}
		put(i, p)
	}
	must(t, s.Sync())
	for i := range frames {
		switch {
		case how == "overwritten":
			put(r.IntN(frames), compactFrame(r, size))
			if i%500 == 0 {
				must(t, s.Sync())
			}
		case how == "punched" && i%3 > 0, how == "small gaps" && i%2 == 1 && i < frames*2/3, how == "front" && i < frames/2:
			punch(i)
		case how == "end" && i == frames/3:
			want = want[:i*size+77]
			must(t, s.Truncate(int64(len(want))))
		}
	}
	if how == "killed" { // What a writer leaves that is killed: nothing was given back.
		must(t, s.Truncate(0))
		must(t, s.Sync())
		want = want[:100*size]
		mustWrite(t, s, want, 0)
		must(t, s.Commit())
		must(t, s.Discard())
		return want
	}
	must(t, s.Close())
	return want
}

// compacted compacts the store at path and returns what it is like then.
func compacted(t *testing.T, path string, o CompactOptions) Info {
	t.Helper()
	s, err := Open(path, Options{Writable: true})
	must(t, err)
	must(t, s.Compact(context.Background(), o))
	if err := s.spaceFault(); err != nil {
		t.Error(err)
	}
	must(t, s.Close())
	s, err = Open(path, Options{})
	must(t, err)
	defer s.Close()
	info, err := s.Info()
	must(t, err)
	return info
}

// wantTight is an error when a store's file is longer than Compact promises.
func wantTight(t *testing.T, what string, i Info) {
	t.Helper()
	used := i.StoredSize + i.IndexSize
	if limit := used + used/slackShare + minSlack + dataStart; i.FileSize > limit || i.DiskSize > limit+32<<10 {
		t.Errorf("%s: file of %d bytes takes %d, want at most %d for %d in use", what, i.FileSize, i.DiskSize, limit, used)
	}
}

// Wherever the free space lies, Compact leaves at most 1/64 of the bytes in use
// and 32 KiB free, every plain byte as it was, and nothing for a second Compact to move.
func TestCompact(t *testing.T) {
	hows := []string{"overwritten", "punched", "small gaps", "front", "end", "killed"}
	for _, how := range hows[:someRuns(1, len(hows), len(hows))] {
		path := filepath.Join(t.TempDir(), "s.lazy")
		want := fragment(t, path, how, 2000)
		var moved, grown int64
		before, err := os.Stat(path)
		must(t, err)
		info := compacted(t, path, CompactOptions{Progress: func(done, total int64) {
			if done < moved || total < done {
				t.Errorf("%s: progress is %d of %d after %d", how, done, total, moved)
			}
			fi, err := os.Stat(path)
			must(t, err)
			moved, grown = done, max(grown, fi.Size()-before.Size())
		}})
		wantTight(t, how, info)
		if limit := int64(minWindow + 256<<10); grown > limit {
			t.Errorf("%s: the file grew by %d bytes meanwhile, want at most %d", how, grown, limit)
		}
		verifyStore(t, path, want)
		compacted(t, path, CompactOptions{Progress: func(int64, int64) { t.Errorf("%s: a second Compact moves frames", how) }})
	}
}

// When a codec or a level is named all frames are compressed by it, also the one
// that lies in the superblock, but for those it can't shrink; new ones are, too.
func TestCompactRecompress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	want := fragment(t, path, "overwritten", 500)
	small := filepath.Join(t.TempDir(), "small.lazy")
	f, err := os.Create(small)
	must(t, err)
	_, err = Pack(context.Background(), f, bytes.NewReader(want[:1000]), PackOptions{})
	must(t, err)
	must(t, f.Close())
	options := []CompactOptions{{Codec: codec.Zstd}, {Codec: codec.Gzip, Level: 1}, {Codec: codec.Raw}, {Codec: codec.LZ4}, {Level: 9}}
	for _, o := range options[:someRuns(1, len(options), len(options))] {
		name := o.Codec.String()
		if o.Codec == 0 {
			name = "lz4"
		}
		info := compacted(t, path, o)
		wantTight(t, name, info)
		verifyStore(t, path, want)
		if info.Codec != name || info.Level != o.Level || info.Frames[name] == 0 || info.Frames[name]+info.Frames["raw"] < 500 && name != "raw" {
			t.Errorf("recompressed with %s, level %d: %+v", name, o.Level, info)
		}
		info = compacted(t, small, o)
		verifyStore(t, small, want[:1000])
		if info.Codec != name || info.FileSize != 4096 {
			t.Errorf("small store recompressed with %s: %+v", name, info)
		}
	}
	s, err := Open(path, Options{Writable: true})
	must(t, err)
	defer s.Discard()
	if err := s.Compact(context.Background(), CompactOptions{Level: 99}); err == nil {
		t.Error("compact with lz4 of level 99 succeeds")
	}
}

// A compaction that is broken off leaves every plain byte as it was, and the next
// one goes on.
func TestCompactInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	want := fragment(t, path, "overwritten", 1000)
	stop := errors.New("enough")
	for k := 0; ; k++ {
		s, err := Open(path, Options{Writable: true})
		must(t, err)
		ctx, cancel := context.WithCancelCause(context.Background())
		left := k
		c := newCompactor(s, ctx, CompactOptions{Progress: func(int64, int64) {
			if left--; left < 0 {
				cancel(stop)
			}
		}}, 128<<10)
		err = c.run()
		must(t, s.Close())
		verifyStore(t, path, want)
		if err == nil {
			t.Logf("done after %d interruptions", k)
			break
		}
		if !errors.Is(err, stop) || k > 100 {
			t.Fatalf("%d: compact ends with %v, want %v", k, err, stop)
		}
	}
	wantTight(t, "interrupted", compacted(t, path, CompactOptions{}))
}

// A nearly full disk is enough for a compaction, which makes it less full.
func TestCompactFullDisk(t *testing.T) {
	dir := smallDisk(t, "8m")
	path := filepath.Join(dir, "s.lazy")
	s, err := Create(path, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := fill(t, s, nil)
	must(t, s.Sync())
	for off := 0; off < len(want)-MinFrameSize; off += 3 * MinFrameSize {
		must(t, s.Punch(int64(off), 2*MinFrameSize))
		clear(want[off:min(len(want), off+2*MinFrameSize)])
	}
	must(t, s.Close())
	// Another file takes what is free, but for half a MiB.
	var fs unix.Statfs_t
	must(t, unix.Statfs(dir, &fs))
	must(t, os.WriteFile(filepath.Join(dir, "other"), make([]byte, int64(fs.Bavail)*fs.Bsize-512<<10), 0o600))
	for _, o := range []CompactOptions{{}, {Codec: codec.Zstd}} {
		wantTight(t, "full disk", compacted(t, path, o))
		verifyStore(t, path, want)
	}
}

// A node of the index at the end of the file moves into a gap that begins below the
// goal, though it ends above: the goal is no better place for it.
func TestCompactNodeAcrossGoal(t *testing.T) {
	s, err := createDisk(&simDisk{}, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	mustWrite(t, s, noise(64*MinFrameSize, 1), 0)
	must(t, s.checkpointNow())
	must(t, s.Punch(20*MinFrameSize, 20*MinFrameSize))
	must(t, s.Sync())
	c := newCompactor(s, context.Background(), CompactOptions{}, compactStep)
	_, err = c.checkpoint(0) // Nodes lie behind all frames then.
	must(t, err)
	gap, root := c.gaps(0, maxFileSize)[0], s.idx.at.extent()
	if gap.len < root.len || root.off < gap.end() {
		t.Fatalf("the root has %d bytes at %d, the first gap %d at %d", root.len, root.off, gap.len, gap.off)
	}
	must(t, c.moveNodes(gap.off+root.len/2))
	if at := s.idx.at.off(); at != gap.off {
		t.Errorf("the root lies at %d, want it in the gap at %d", at, gap.off)
	}
	must(t, s.spaceFault())
}

// A damaged frame is never moved, which would give it a right checksum: Compact
// names it, and everything else is as it was.
func TestCompactDamagedFrame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	want := fragment(t, path, "front", 400)
	s, err := Open(path, Options{})
	must(t, err)
	at, err := s.FrameInfo(399)
	must(t, err)
	must(t, s.Close())
	flip(t, path, at.Off+100)
	for range 2 {
		s, err = Open(path, Options{Writable: true})
		must(t, err)
		err = s.Compact(context.Background(), CompactOptions{})
		var d *DamageError
		if !errors.As(err, &d) || d.Part != "frame 399" || d.Path != path {
			t.Errorf("compact gives %v, want damage to frame 399", err)
		}
		must(t, s.Close())
		s, err = Open(path, Options{})
		must(t, err)
		if found := checked(t, s); len(found) != 1 || found[0].Part != "frame 399" {
			t.Errorf("check finds %v, want frame 399", found)
		}
		got := make([]byte, 399*MinFrameSize)
		if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, want[:len(got)]) {
			t.Errorf("the other frames read back wrong: %v", err)
		}
		must(t, s.Close())
	}
}

// flip changes a bit of a file.
func flip(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], off)
	must(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b[:], off)
	must(t, err)
}

// Compact of a store that can't be changed says so, and of one where there is
// nothing to do writes nothing.
func TestCompactRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	fragment(t, path, "overwritten", 10)
	compacted(t, path, CompactOptions{})
	s, err := Open(path, Options{})
	must(t, err)
	if err := s.Compact(context.Background(), CompactOptions{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("compact of a reader: %v, want ErrReadOnly", err)
	}
	must(t, s.Close())
	if err := s.Compact(context.Background(), CompactOptions{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("compact of a closed store: %v, want os.ErrClosed", err)
	}
	image, err := os.ReadFile(path)
	must(t, err)
	d := diskWith(image)
	s, err = openDisk(d, nil, Options{Writable: true})
	must(t, err)
	must(t, s.Compact(context.Background(), CompactOptions{}))
	for _, op := range d.pending {
		if op.what == "write" {
			t.Errorf("compact of a compact store writes %d bytes at %#x", len(op.data), op.off)
		}
	}
}

// readAll is what a store holds.
func readAll(s *Store) ([]byte, error) { return io.ReadAll(io.NewSectionReader(s, 0, s.Size())) }
