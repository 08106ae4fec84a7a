package store

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"lazyfs/codec"
)

// Writers in the same process go on while a store is compacted: no write is lost,
// none shows in the wrong place, and reads see what was written last.
func TestCompactBesideWriters(t *testing.T) {
	const writers = 4
	frames := someRuns(40, 100, 100)
	path := filepath.Join(t.TempDir(), "s.lazy")
	want := fragment(t, path, "overwritten", writers*frames)
	s, err := Open(path, Options{Writable: true, DirtyBytes: 64 << 10, Cache: NewCache(256 << 10)})
	must(t, err)
	seed := randomSeed(t)
	var busy sync.WaitGroup
	var enough atomic.Bool
	for w := range writers {
		busy.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			mine := want[w*frames*MinFrameSize:][:frames*MinFrameSize]
			base := int64(w * frames * MinFrameSize)
			for !enough.Load() {
				off := r.IntN(len(mine) - 5000)
				p := compactFrame(r, 1+r.IntN(5000))
				copy(mine[off:], p)
				if _, err := s.WriteAt(p, base+int64(off)); err != nil {
					t.Error(err)
				}
				switch r.IntN(20) {
				case 0:
					n := r.IntN(9000)
					clear(mine[off:min(len(mine), off+n)])
					if err := s.Punch(base+int64(off), int64(min(n, len(mine)-off))); err != nil {
						t.Error(err)
					}
				case 1:
					if err := s.Sync(); err != nil {
						t.Error(err)
					}
				}
				got := make([]byte, 20_000)
				at := r.IntN(len(mine) - len(got))
				if _, err := s.ReadAt(got, base+int64(at)); err != nil || !bytes.Equal(got, mine[at:at+len(got)]) {
					t.Errorf("read at %#x: wrong bytes, %v", base+int64(at), err)
					return
				}
			}
		})
	}
	for i := range someRuns(3, 4, 40) {
		o := CompactOptions{}
		if i%3 == 2 {
			o.Codec = []codec.ID{codec.Zstd, codec.LZ4}[i%2]
		}
		if err := newCompactor(s, context.Background(), o, 64<<10).run(); err != nil {
			t.Errorf("compact: %v", err)
		}
		if err := s.spaceFault(); err != nil {
			t.Error(err)
		}
	}
	enough.Store(true)
	busy.Wait()
	must(t, s.Close())
	verifyStore(t, path, want)
	wantTight(t, "quiet again", compacted(t, path, CompactOptions{}))
}

// A frame that is compressed while Compact goes over to another codec says which one it
// was compressed with.
func TestAddBesideCompact(t *testing.T) {
	s, err := Create(filepath.Join(t.TempDir(), "s.lazy"), CreateOptions{FrameSize: MaxFrameSize})
	must(t, err)
	defer s.Discard()
	plain := text(MaxFrameSize, "words that take their time to compress ")
	mustWrite(t, s, make([]byte, 4*MaxFrameSize), 0)
	must(t, s.Sync())
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		w := s.NewFrameWriter()
		defer w.Close()
		for n := int64(1); ; n = n%3 + 1 {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := errors.Join(w.Add(n, plain), w.Flush()); err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 20 {
		id := []codec.ID{codec.Zstd, codec.LZ4}[i%2]
		must(t, s.Compact(context.Background(), CompactOptions{Codec: id}))
		for _, d := range checked(t, s) {
			t.Error(d)
		}
	}
	close(stop)
	must(t, <-done)
}

// A lateContext calls late when it is first asked whether it has ended.
type lateContext struct {
	context.Context
	once sync.Once
	late func()
}

func (c *lateContext) Err() error {
	c.once.Do(c.late)
	return c.Context.Err()
}

// An unreservedDisk is one of a file system that can't reserve.
type unreservedDisk struct{ *simDisk }

func (d unreservedDisk) Reserve(_, _ int64) error { return nil }

// Of frames written while a store is compacted, for which the disk turns out to have no
// room, none is committed without the others.
func TestCompactCommitsAllOrNothing(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(unreservedDisk{d}, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := noise(60*MinFrameSize, 1)
	mustWrite(t, s, want, 0)
	must(t, s.checkpointNow())
	must(t, s.Punch(10*MinFrameSize, 30*MinFrameSize))
	clear(want[10*MinFrameSize : 40*MinFrameSize])
	must(t, s.Sync())
	d.setFull(true)
	late := func() { mustWrite(t, s, noise(60*MinFrameSize, 2), 0) }
	if err := s.Compact(&lateContext{Context: context.Background(), late: late}, CompactOptions{}); !isNoSpace(err) {
		t.Errorf("compact on a full disk: %v, want ENOSPC", err)
	}
	r, err := openDisk(diskWith(d.durable), nil, Options{})
	must(t, err)
	if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("generation %d of %d is none that there was, %v", r.Generation(), s.Generation(), err)
	}
}

// What is reserved for frames that are in the file, but not yet committed, is kept when
// a compaction gives space back.
func TestReservedBesideCompact(t *testing.T) {
	dir := smallDisk(t, "8m")
	s, err := Create(filepath.Join(dir, "s.lazy"), CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	defer s.Discard()
	mustWrite(t, s, noise(64*MinFrameSize, 1), 0)
	must(t, s.Truncate(4000*MinFrameSize))
	must(t, s.checkpointNow())
	late := func() {
		for n := range int64(3000) { // Zeros: only the log takes room for them.
			must(t, s.WriteFrame(100+n, make([]byte, MinFrameSize)))
		}
	}
	must(t, s.Compact(&lateContext{Context: context.Background(), late: late}, CompactOptions{}))
	if len(s.changed) < 3000 {
		t.Fatal("the frames are committed already")
	}
	fillDisk(t, dir)
	must(t, s.Sync())
}

// The same for the frame of a small store that no longer fits into its superblock.
func TestReservedForInlineBesideCompact(t *testing.T) {
	dir := smallDisk(t, "8m")
	s, err := Create(filepath.Join(dir, "s.lazy"), CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	defer s.Discard()
	mustWrite(t, s, text(1000, "small "), 0)
	must(t, s.Sync())
	late := func() { must(t, s.Truncate(2*MinFrameSize)) }
	must(t, s.Compact(&lateContext{Context: context.Background(), late: late}, CompactOptions{}))
	fillDisk(t, dir)
	must(t, s.Sync())
}
