package uffdmap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// A ladder is a writer whose words show whether they were seen at one instant: it
// writes 1, 2, 3 … to its word of one frame after the other, round and round.
type ladder struct {
	frames []int64 // offsets of its words, in the order in which it writes them
	last   atomic.Uint64
	seen   func() uint64 // what it writes beside: how far another ladder was before
}

func newLadder(r *rand.Rand, frames, word int) *ladder {
	l := &ladder{frames: make([]int64, frames), seen: func() uint64 { return 0 }}
	for i, n := range r.Perm(frames) {
		l.frames[i] = int64(n)<<14 + int64(word)*16
	}
	return l
}

func (l *ladder) climb(b []byte, until func() bool) {
	word := func(off int64) *uint64 { return (*uint64)(unsafe.Pointer(&b[off])) }
	for k := uint64(1); !until(); k++ {
		at := l.frames[k%uint64(len(l.frames))]
		seen := l.seen()
		atomic.StoreUint64(word(at+8), seen)
		atomic.StoreUint64(word(at), k)
		l.last.Store(k)
		if k%16 == 0 {
			runtime.Gosched() // or the other goroutines wait for their turn for long
		}
	}
}

// check says whether b holds the words as they were at one instant, and returns
// how far the ladder was, and the other one when it looked last.
func (l *ladder) check(b []byte) (k, seen uint64, err error) {
	word := func(off int64) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	for _, at := range l.frames {
		k = max(k, word(at))
		seen = max(seen, word(at+8))
	}
	n := uint64(len(l.frames))
	for i, at := range l.frames {
		want := k - (k-uint64(i))%n
		if k < n && uint64(i) > k {
			want = 0
		}
		if got := word(at); got != want {
			return 0, 0, fmt.Errorf("word at %#x is %d, want %d where the last is %d", at, got, want, k)
		}
	}
	return k, seen, nil
}

// A snapshot shows one instant across all pages, while two writers storm them, of
// which one looks at the other, beside Sync and eviction.
func TestSnapshotIsOneInstant(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, o := range []Options{{Writable: true}, {Private: true}, {Writable: true, MemoryLimit: 1 << 20}} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			const frames = 200
			m := mustMap(t, pack(t, make([]byte, frames<<14), store.CreateOptions{}), o)
			first, second := newLadder(r, frames, 3), newLadder(r, frames, 90)
			second.seen = first.last.Load
			var done atomic.Bool
			var all sync.WaitGroup
			defer all.Wait()
			defer done.Store(true)
			all.Go(func() { first.climb(m.Bytes(), done.Load) })
			all.Go(func() { second.climb(m.Bytes(), done.Load) })
			all.Go(func() {
				for !done.Load() {
					if err := m.Sync(); err != nil {
						t.Errorf("sync: %v", err)
						return
					}
				}
			})
			before := uint64(0)
			taken := 0
			for end := time.Now().Add(seconds(time.Second, time.Minute)); time.Now().Before(end); taken++ {
				b := readSnapshot(t, m, func() { before = first.last.Load() })
				k, _, err := first.check(b)
				if err != nil {
					t.Fatalf("snapshot %d: first writer: %v", taken, err)
				}
				if k < before {
					t.Fatalf("snapshot %d: first writer is at %d, was at %d before", taken, k, before)
				}
				_, seen, err := second.check(b)
				if err != nil {
					t.Fatalf("snapshot %d: second writer: %v", taken, err)
				}
				if seen > k {
					t.Fatalf("snapshot %d: first writer is at %d, the second saw it at %d", taken, k, seen)
				}
			}
			t.Logf("%d snapshots of %d and %d writes", taken, first.last.Load(), second.last.Load())
		})
	}
}

// readSnapshot takes a snapshot and reads it whole.
func readSnapshot(t *testing.T, m *Mapping, before func()) []byte {
	t.Helper()
	before()
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, s.Size())
	_, err = s.ReadAt(b, 0)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// Snapshots that are open at once each hold their own bytes, whatever is done to
// the mapping later, to the last odd byte.
func TestSnapshotsKeepTheirBytes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, size := range []int{0, 1, 4097, 3<<20 + 77} {
		for _, o := range []Options{{}, {Writable: true}, {Private: true}, {Writable: true, MemoryLimit: 1}} {
			data := content(size, seed)
			m := mustMap(t, pack(t, data, store.CreateOptions{FrameSize: 4 << 10}), o)
			var taken []*Snapshot
			var want [][]byte
			for range 4 {
				s, err := m.Snapshot()
				if err != nil {
					t.Fatalf("%d bytes, %+v: %v", size, o, err)
				}
				taken, want = append(taken, s), append(want, bytes.Clone(data))
				for range 300 {
					if size == 0 || !o.Writable && !o.Private {
						break
					}
					at := r.IntN(size)
					data[at]++
					m.Bytes()[at] = data[at]
				}
				if r.IntN(2) == 0 {
					must(t, "sync", m.Sync())
				}
				must(t, "protect", m.Protect())
			}
			for i, s := range taken {
				got := make([]byte, size+1)
				n, err := s.ReadAt(got, 0)
				if n != size || err != io.EOF || !bytes.Equal(got[:n], want[i]) {
					t.Errorf("%d bytes, %+v: snapshot %d gives %d bytes and %v; they are right: %v",
						size, o, i, n, err, bytes.Equal(got[:n], want[i]))
				}
				must(t, "close snapshot", s.Close())
			}
			if !bytes.Equal(m.Bytes(), data) {
				t.Errorf("%d bytes, %+v: the mapping differs from what was written", size, o)
			}
		}
	}
}

// When its pager is killed a snapshot is lost and says so, and the mapping goes
// on.
func TestSnapshotOfKilledPager(t *testing.T) {
	data := content(1<<20, 8)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{Writable: true})
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	m.Bytes()[5000]++
	must(t, "kill", killPager())
	m.Bytes()[70000]++ // the successor lets it through
	if _, err := s.ReadAt(make([]byte, 10), 5000); !errors.Is(err, ErrSnapshotLost) {
		t.Errorf("read: %v, want %v", err, ErrSnapshotLost)
	}
	must(t, "close", s.Close())
	data[5000]++
	data[70000]++
	if b := readSnapshot(t, m, func() {}); !bytes.Equal(b, data) {
		t.Error("another snapshot differs from what was written")
	}
}

// A snapshot without room for a frame fails, and keeps no writer from going on.
func TestSnapshotWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	must(t, "mount", unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	data := content(16<<20, 9)
	clear(data[1<<20:])
	path := filepath.Join(dir, "x.lazy")
	must(t, "pack", packTo(path, data, store.CreateOptions{}))
	m := mustMap(t, path, Options{Private: true})
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += 4096 {
		m.Bytes()[at]++
		data[at]++
	}
	if _, err := s.ReadAt(make([]byte, 10), 0); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("read: %v, want %v", err, unix.ENOSPC)
	}
	must(t, "close", s.Close())
	if !bytes.Equal(m.Bytes(), data) {
		t.Error("the mapping differs from what was written")
	}
}

// A closed snapshot says so, and so does one whose mapping is closed; neither
// leaves a descriptor behind.
func TestSnapshotClosed(t *testing.T) {
	data := content(100_000, 10)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{Writable: true})
	before := len(descriptors(t))
	one, err := m.Snapshot()
	must(t, "snapshot", err)
	two, err := m.Snapshot()
	must(t, "snapshot", err)
	must(t, "close", one.Close())
	if _, err := one.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read of a closed snapshot: %v, want %v", err, os.ErrClosed)
	}
	must(t, "close mapping", m.Close())
	if _, err := two.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read of a snapshot of a closed mapping: %v, want %v", err, os.ErrClosed)
	}
	must(t, "close", two.Close())
	if err := two.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second close: %v, want %v", err, os.ErrClosed)
	}
	if after := len(descriptors(t)); after > before {
		t.Errorf("%d descriptors are open after all was closed, %d before", after, before)
	}
}

// While a write is let through no snapshot is taken: it would hold what comes after that, and
// not that.
func TestSnapshotBesideLift(t *testing.T) {
	_, m, _ := newLoneWorker(t, spec{})
	m.lifting.RLock()
	taken := make(chan error, 1)
	go func() { taken <- m.takeSnapshot(1, newImages(t, m)) }()
	eventually(t, "the snapshot to wait, or to be taken", func() bool {
		if !m.lifting.TryRLock() {
			return true
		}
		m.lifting.RUnlock()
		return len(taken) > 0
	})
	if len(taken) > 0 {
		t.Error("the snapshot was taken")
	}
	m.lifting.RUnlock()
	must(t, "take a snapshot", <-taken)
}

// Who reads a frame of a snapshot waits for who is at the frame, and may be about to save it
// and to let a write through.
func TestSnapshotBesideWriter(t *testing.T) {
	_, m, _ := newLoneWorker(t, spec{})
	must(t, "take a snapshot", m.takeSnapshot(1, newImages(t, m)))
	m.locks.lock(3)
	read := make(chan error, 1)
	go func() {
		_, err := m.recall(m.snapshots[1], make([]byte, m.FrameSize), 3)
		read <- err
	}()
	eventually(t, "who reads to wait, or to be done", func() bool {
		m.locks.mu.Lock()
		defer m.locks.mu.Unlock()
		return m.locks.waiting > 0 || len(read) > 0
	})
	if len(read) > 0 {
		t.Error("the frame was read")
	}
	m.locks.unlock(3)
	must(t, "read", <-read)
}
