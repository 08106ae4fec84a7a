package uffdmap

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

// Under a limit every byte can be read, and memory stays within the limit.
func TestLimit(t *testing.T) {
	const frame, limit = 16 << 10, 256 << 10
	want := plainBytes(newRand(t), 4<<20)
	v := openView(t, newStore(t, want, frame), Options{MemoryLimit: limit})
	for off := int64(0); off < int64(len(want)); off += 10_000 {
		n := min(10_000, int64(len(want))-off)
		s, err := v.View(off, n)
		must(t, "view", err)
		same(t, "view", s.Bytes(), want[off:off+n])
		s.Release()
		if r := v.Stats().Resident; r > limit {
			t.Fatalf("%d bytes resident, limit is %d", r, limit)
		}
	}
	got := make([]byte, len(want))
	_, err := v.ReadAt(got, 0)
	must(t, "read", err)
	same(t, "read of more than the limit", got, want)
	if v.Stats().Evicted == 0 {
		t.Error("nothing was evicted")
	}
}

// The bytes of a released span trap once their frame was evicted, at the address
// that was touched, and can be recovered from. The goroutine neither hangs nor
// sees zeros. A new span of the same range works.
func TestUseAfterReleaseTraps(t *testing.T) {
	const frame, frames = 16 << 10, 64
	want := bytes.Repeat([]byte{7}, frames*frame)
	for _, o := range []Options{{}, {Writable: true}, {Private: true}} {
		o.MemoryLimit = 8 * frame
		v := openView(t, newStore(t, want, frame), o)
		s, err := v.View(0, frame)
		must(t, "view", err)
		stale := s.Bytes()
		s.Release()
		if b, trapped := touchByte(stale, 5); trapped == 0 && b != 7 {
			t.Fatalf("%+v: released, resident byte is %d, want 7", o, b)
		}
		for n := int64(8); n < frames; n += 2 { // Not in one walk, which would be read ahead.
			s, err := v.View(n*frame, 1)
			must(t, "view", err)
			s.Release()
		}
		b, trapped := touchByte(stale, 5)
		if want := uintptr(unsafe.Pointer(&stale[5])); trapped != want {
			t.Errorf("%+v: touch of an evicted byte gives %d, trap at %#x, want %#x", o, b, trapped, want)
		}
		s, err = v.View(0, frame)
		must(t, "view again", err)
		same(t, "view again", s.Bytes(), want[:frame])
		s.Release()
	}
}

// What does not fit is refused with ErrLimit: one span that is too long, or one
// more when all that fits is held. After a Release it works.
func TestLimitIsHeld(t *testing.T) {
	const frame = 16 << 10
	v := openView(t, newStore(t, make([]byte, 64*frame), frame), Options{MemoryLimit: 4 * frame})
	if _, err := v.View(0, 4*frame+1); !errors.Is(err, ErrLimit) {
		t.Errorf("view of 5 frames: %v, want ErrLimit", err)
	}
	if err := v.Prefetch(); !errors.Is(err, ErrLimit) {
		t.Errorf("prefetch of all: %v, want ErrLimit", err)
	}
	s, err := v.View(0, 4*frame)
	must(t, "view of 4 frames", err)
	if _, err := v.View(10*frame, 1); !errors.Is(err, ErrLimit) {
		t.Errorf("view beside 4 held frames: %v, want ErrLimit", err)
	}
	if r := v.Stats().Resident; r != 4*frame {
		t.Errorf("%d bytes resident, want %d", r, 4*frame)
	}
	s.Release()
	s, err = v.View(10*frame, 1)
	must(t, "view after release", err)
	s.Release()
}

// While all but one of the frames that fit are held, the one left is enough to view
// all others, one after the other.
func TestViewBesideHeld(t *testing.T) {
	const frame, limit = 16 << 10, 8
	v := openView(t, newStore(t, make([]byte, 64*frame), frame), Options{MemoryLimit: limit * frame})
	held, err := v.View(0, (limit-1)*frame)
	must(t, "view of what is held", err)
	defer held.Release()
	for n := int64(limit); n < 64; n++ {
		s, err := v.View(n*frame, 1)
		must(t, "view beside it", err)
		s.Release()
	}
}

// Private writes survive eviction of everything else, until they fill the limit,
// which is an error and not a loss.
func TestPrivateIsNotEvicted(t *testing.T) {
	const frame = 16 << 10
	v := openView(t, newStore(t, make([]byte, 64*frame), frame), Options{Private: true, MemoryLimit: 8 * frame})
	written := int64(0)
	for ; ; written++ {
		if _, err := v.WriteAt([]byte{byte(written + 1)}, written*2*frame); err != nil {
			if !errors.Is(err, ErrLimit) {
				t.Errorf("write of frame %d: %v, want ErrLimit", written, err)
			}
			break
		}
	}
	if written != 8 {
		t.Errorf("%d frames were written before the limit, want 8", written)
	}
	var b [1]byte
	for n := range written {
		if _, err := v.ReadAt(b[:], n*2*frame); err != nil || b[0] != byte(n+1) {
			t.Errorf("frame %d: %v, byte %d, want %d", n, err, b[0], n+1)
		}
	}
}

// A WriteAt of more than fits says how much it wrote.
func TestViewWriteCount(t *testing.T) {
	const frame = 16 << 10
	v := openView(t, newStore(t, make([]byte, 64*frame), frame), Options{Private: true, MemoryLimit: 4 * frame})
	n, err := v.WriteAt(make([]byte, 8*frame), 0)
	if n != 4*frame || !errors.Is(err, ErrLimit) {
		t.Errorf("write of 8 frames where 4 fit: %d, %v, want %d, ErrLimit", n, err, 4*frame)
	}
}

// Goroutines that read and write all over a mapping much larger than its limit
// always see what was written last, and a store that is opened anew has all of
// it. Every slot belongs to one goroutine, which counts in it.
func TestEvictionAmongWriters(t *testing.T) {
	for name, mask := range map[string]string{"tracked": "", "untracked": "wp_async"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LAZYFS_MASK_UFFD", mask)
			const frame, frames, writers, rounds = 16 << 10, 128, 4, 3000
			path := newStore(t, make([]byte, frames*frame), frame)
			v := openView(t, path, Options{Writable: true, MemoryLimit: 24 * frame})
			var model [writers][frames]byte
			var ended atomic.Int32
			var wg sync.WaitGroup
			seed := newRand(t).Uint64()
			for w := range writers {
				wg.Go(func() {
					defer ended.Add(1)
					rnd := rand.New(rand.NewPCG(seed, uint64(w)))
					for range rounds {
						n := rnd.IntN(frames)
						s, err := v.Edit(int64(n)*frame+int64(w)*4096, 1)
						if err != nil {
							t.Error(err)
							return
						}
						if got := s.Bytes()[0]; got != model[w][n] {
							t.Errorf("frame %d, writer %d: byte is %d, want %d", n, w, got, model[w][n])
						}
						if rnd.IntN(2) == 0 {
							model[w][n]++
							s.Bytes()[0]++
						}
						s.Release()
					}
				})
			}
			for ended.Load() < writers && !t.Failed() {
				must(t, "sync", v.Sync())
			}
			wg.Wait()
			if v.Stats().Evicted == 0 {
				t.Error("nothing was evicted")
			}
			must(t, "close", v.Close())
			got := stored(t, path)
			for w := range writers {
				for n := range frames {
					if b := got[n*frame+w*4096]; b != model[w][n] {
						t.Errorf("stored frame %d, writer %d: byte is %d, want %d", n, w, b, model[w][n])
					}
				}
			}
		})
	}
}

func init() { bodies["failing evictions"] = failingEvictionsBody }

// failingEvictionsBody edits the only frame that nobody holds, while evictions fail
// to store it and bring it back each time.
func failingEvictionsBody(args []string) error {
	const frame, frames = 4 << 10, 4
	most, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	v, err := Open(args[0], Options{Writable: true, MemoryLimit: frames * frame})
	if err != nil {
		return err
	}
	held, err := v.View(frame, (frames-1)*frame)
	if err != nil {
		return err
	}
	defer held.Release()
	if _, err := v.WriteAt([]byte{1}, 0); err != nil {
		return err
	}
	if err := v.store.Discard(); err != nil {
		return err
	}
	var evictions, edits sync.WaitGroup
	var failures atomic.Int64
	for range 8 {
		evictions.Go(func() {
			for failures.Load() < most {
				if n, ok := v.claimVictim(); ok && v.evict(n) != nil {
					failures.Add(1)
				}
			}
		})
	}
	var ended atomic.Bool
	var failed error
	edits.Go(func() {
		for failed == nil && !ended.Load() {
			var s *Span
			if s, failed = v.Edit(0, 1); failed == nil {
				s.Release()
				runtime.Gosched() // Otherwise it is held all the time.
			}
		}
	})
	evictions.Wait()
	ended.Store(true)
	edits.Wait()
	return failed
}

// A frame that can't be evicted, since it is dirty and its store takes nothing, is
// there for who waits for it, however many try.
func TestViewFailingEvictions(t *testing.T) {
	most := 200_000
	if testing.Short() {
		most = 20_000
	}
	run(t, command("failing evictions", newStore(t, make([]byte, 1<<20), 4<<10), strconv.Itoa(most)), tooLong)
}
