package uffdmap

import (
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"lazyfs/store"
)

// Dirty, Written and Resident yield their frames in order, those that touch as
// one, and end with the mapping.
func TestMapRanges(t *testing.T) {
	const frame, frames = 4096, 15*64 + 1 // The last one has a word of each bitmap alone.
	rnd := newRand(t)
	m := mustMap(t, pack(t, make([]byte, frames*frame-100), store.CreateOptions{FrameSize: frame}), Options{Writable: true})
	for _, share := range []int{100, 10, 2} {
		must(t, "protect", m.Protect())
		must(t, "sync", m.Sync())
		var want []int64
		for n := range int64(frames) {
			if n == frames-1 || rnd.IntN(share) == 0 {
				m.Bytes()[n*frame]++
				want = append(want, n)
			}
		}
		for name, ranges := range map[string]iter.Seq[Range]{"dirty": m.Dirty(), "written": m.Written()} {
			got := framesIn(ranges, frame)
			if !slices.Equal(got, want) {
				t.Errorf("%s frames are %v, want %v", name, got, want)
			}
			end := int64(-1)
			for r := range ranges {
				if r.Off <= end {
					t.Errorf("%s: %v begins where the last one ends, or before", name, r)
				}
				end = r.End()
			}
			if end != m.Size() {
				t.Errorf("%s: the last range ends at %#x, want %#x", name, end, m.Size())
			}
		}
	}
	var last Range
	for last = range m.Resident() {
	}
	if last.End() != m.Size() {
		t.Errorf("resident: the last range ends at %#x, want %#x", last.End(), m.Size())
	}
}

// What a Sync has begun to write back and not committed is dirty.
func TestMapDirtyBesideSync(t *testing.T) {
	m := mustMap(t, pack(t, make([]byte, 1<<20), store.CreateOptions{}), Options{Private: true})
	pagers, err := mapTable(m.fds[fdTable], m.frames(), true)
	must(t, "map the table", err)
	defer pagers.close()
	pagers.dirty.set(5)
	pagers.dirty.clear(5)
	pagers.syncing.set(5)
	want := []Range{{5 * m.FrameSize, m.FrameSize}}
	if got := slices.Collect(m.Dirty()); !slices.Equal(got, want) {
		t.Errorf("dirty is %v, want %v", got, want)
	}
	if got := m.Stats().Dirty; got != m.FrameSize {
		t.Errorf("%d bytes are dirty, want %d", got, m.FrameSize)
	}
}

// No range of Resident is empty, while pages come and go.
func TestMapResidentAmongEvictions(t *testing.T) {
	const frame = 16 << 10
	m := mustMap(t, pack(t, content(64*frame, 1), store.CreateOptions{FrameSize: frame}), Options{MemoryLimit: minFrames * frame})
	var walked atomic.Bool
	var touching sync.WaitGroup
	touching.Go(func() {
		for n := 0; !walked.Load(); n += 5 {
			peek(m.Bytes(), n%64*frame)
		}
	})
	for range 10_000 {
		for r := range m.Resident() {
			if r.Len <= 0 {
				t.Errorf("range %v", r)
			}
		}
	}
	walked.Store(true)
	touching.Wait()
}

// The body of a loop over ranges may call all methods of the mapping, Close too:
// that ends the loop.
func TestMapCloseInRanges(t *testing.T) {
	path := pack(t, content(1<<20, 1), store.CreateOptions{})
	for name, ranges := range map[string]func(*Mapping) iter.Seq[Range]{
		"dirty": (*Mapping).Dirty, "written": (*Mapping).Written, "resident": (*Mapping).Resident,
	} {
		m := mustMap(t, path, Options{Writable: true})
		for n := range 5 {
			m.Bytes()[n*100_000]++
		}
		body := func() (loops int) {
			for range ranges(m) {
				loops++
				must(t, "close", m.Close())
			}
			return loops
		}
		if loops := body(); loops != 1 {
			t.Errorf("%s: %d ranges were yielded with a Close after the first", name, loops)
		}
	}
}

// A Sync in a loop over ranges does not wait for a Close that began beside it.
func TestMapSyncInRanges(t *testing.T) {
	m := mustMap(t, pack(t, content(1<<20, 1), store.CreateOptions{}), Options{Writable: true})
	m.Bytes()[0]++
	closed := make(chan error)
	for range m.Dirty() {
		go func() { closed <- m.Close() }()
		eventually(t, "close is at it", func() bool {
			if !m.mu.TryRLock() {
				return true
			}
			defer m.mu.RUnlock()
			return m.closed
		})
		m.Sync() // Before the Close, or not any more.
	}
	must(t, "close", <-closed)
}
