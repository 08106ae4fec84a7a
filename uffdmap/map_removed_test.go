package uffdmap

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// Pages that a program punches out of its mapping while it is synced or shown by a
// snapshot are as at the last Sync, or as they were: nobody ever takes them for zeros.
func TestMapRemovesBesideSync(t *testing.T) {
	const frame, size = 1 << 20, 8 << 20
	path := pack(t, bytes.Repeat([]byte{1}, size), store.CreateOptions{FrameSize: frame})
	m := mustMap(t, path, Options{Writable: true})
	noZeros := func(what string, b []byte) {
		t.Helper()
		if at := bytes.IndexByte(b, 0); at >= 0 {
			t.Fatalf("byte %#x of the %s is 0, and never was", at, what)
		}
	}
	seed := newRand(t).Uint64()
	for round := range 20 {
		for at := range size {
			m.Bytes()[at] = byte(2 + round)
		}
		var removing sync.WaitGroup
		removing.Go(func() {
			for _, p := range rand.New(rand.NewPCG(seed, uint64(round))).Perm(size / pageSize) {
				if err := unix.Madvise(m.mem[p*pageSize:(p+1)*pageSize], unix.MADV_REMOVE); err != nil {
					t.Errorf("punch out a page: %v", err)
				}
			}
		})
		if round%2 == 0 {
			must(t, "sync", m.Sync())
		} else {
			noZeros("snapshot", readSnapshot(t, m, func() {}))
		}
		removing.Wait()
		noZeros("mapping", m.Bytes())
	}
}

// So they are where the frame was evicted dirty some time before, and somebody goes on
// to write it beside Sync.
func TestMapRemovesEvicted(t *testing.T) {
	const frame, frames, limit = 16 << 10, 400, 40
	path := pack(t, make([]byte, frames*frame), store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true, MemoryLimit: limit * frame})
	word := (*atomic.Uint64)(unsafe.Pointer(&m.Bytes()[0]))
	for round := range 20 {
		word.Add(1)
		for !m.table.spilled.get(0) {
			for n := range frames - limit {
				m.Bytes()[(limit+n*37%(frames-limit))*frame]++
			}
		}
		for n := 1; n < limit/2; n++ { // What Sync has to do besides.
			m.Bytes()[n*frame]++
		}
		want := word.Add(1)
		var done atomic.Bool
		var writing sync.WaitGroup
		writing.Go(func() {
			for !done.Load() {
				word.Add(1)
			}
		})
		err := m.Sync()
		done.Store(true)
		writing.Wait()
		must(t, "sync", err)
		must(t, "punch out a page", unix.Madvise(m.mem[:pageSize], unix.MADV_REMOVE))
		if got := word.Load(); got < want {
			t.Fatalf("round %d: word is %d, and was synced as %d", round, got, want)
		}
	}
	must(t, "close", m.Close())
}

// What a Sync has stored does not come back older: pages that were punched out beside it and
// touched again are as in the store when it is done.
func TestMapRemovedIsAsSynced(t *testing.T) {
	const frame, size = 64 << 10, 8 << 20
	path := pack(t, make([]byte, size), store.CreateOptions{FrameSize: frame})
	m := mustMap(t, path, Options{Writable: true})
	rnd := newRand(t)
	for round := range 20 {
		for at := 0; at < size; at += pageSize {
			m.Bytes()[at]++
		}
		pages := rnd.Perm(size / pageSize)[:500]
		var removing sync.WaitGroup
		removing.Go(func() {
			for _, p := range pages {
				err := unix.Madvise(m.mem[p*pageSize:(p+1)*pageSize], unix.MADV_REMOVE)
				if round%2 == 0 || p%2 == 0 {
					peek(m.Bytes(), p*pageSize)
				} else if err == nil {
					err = m.Prefetch(Range{int64(p * pageSize), min(frame, int64(size-p*pageSize))})
				}
				if err != nil {
					t.Errorf("punch out a page and bring it back: %v", err)
				}
			}
		})
		must(t, "sync", m.Sync())
		removing.Wait()
		if got := stored(t, path); !bytes.Equal(m.Bytes(), got) {
			t.Fatalf("round %d: memory differs from the store", round)
		}
	}
	must(t, "close", m.Close())
}

// punchTaken writes to page 0 of frame 3, of which a Sync takes copied then, and punches the
// page out before the store has that. Frame 3 has to be handed over.
func punchTaken(t *testing.T, w *worker, m *served) (page, copied []byte) {
	t.Helper()
	w.answers(t, m, uffd.FaultWrite, 3)
	off, _ := m.extent(3)
	page = bytes.Repeat([]byte{1}, pageSize)
	must(t, "write", pwriteFull(m.memory, page, off))
	m.handing.RLock()
	copied, err := m.takeFrame(make([]byte, m.FrameSize), 3)
	must(t, "copy", err)
	punchPage(t, m, off)
	return page, copied
}

// punchPage punches out the page of m at off.
func punchPage(t *testing.T, m *served, off int64) {
	t.Helper()
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	must(t, "punch out a page", unix.Fallocate(m.memory, punch, off, pageSize))
}

// handOver gives the store what a Sync has copied of frame 3.
func handOver(t *testing.T, m *served, copied []byte) {
	t.Helper()
	must(t, "hand over", m.late.store.WriteFrame(3, copied))
	m.handing.RUnlock()
}

// Nor where a frame of them was to be evicted before the store has what the Sync copied.
func TestMapRemovedIsNotEvicted(t *testing.T) {
	w, m, _ := newLoneWorker(t, spec{Writable: true, Limit: 1})
	want, copied := punchTaken(t, w, m)
	m.Limit = pageSize
	m.makeRoom(w.scratch)
	m.Limit = m.Size
	if m.absent(3) {
		w.answers(t, m, 0, 3)
	}
	handOver(t, m, copied)
	m.committed(3)
	w.answers(t, m, 0, 3)
	off, _ := m.extent(3)
	got := make([]byte, pageSize)
	must(t, "read", m.readMemory(got, off))
	same(t, "page", got, want)
}

// Nor in a snapshot: who reads it waits until the store has what the Sync copied, and who
// has to save the frame for it ends it.
func TestSnapshotOfRemoved(t *testing.T) {
	w, m, _ := newLoneWorker(t, spec{Writable: true})
	want, copied := punchTaken(t, w, m)
	must(t, "take a snapshot", m.takeSnapshot(1, newImages(t, m)))
	s, got := m.snapshots[1], make([]byte, m.FrameSize)
	read := make(chan error, 1)
	go func() {
		_, err := m.recall(s, got, 3)
		read <- err
	}()
	eventually(t, "who reads to wait, or to be done", func() bool {
		if !m.handing.TryRLock() {
			return true
		}
		m.handing.RUnlock()
		return len(read) > 0
	})
	handOver(t, m, copied)
	must(t, "read", <-read)
	same(t, "page", got[:pageSize], want)
	m.handing.RLock()
	defer m.handing.RUnlock()
	w.answers(t, m, uffd.FaultWP|uffd.FaultWrite, 3)
	if !errors.Is(s.failed, errBehind) {
		t.Errorf("the snapshot has frame 3, or %v; want %v", s.failed, errBehind)
	}
}

// Nor where a frame was evicted dirty, came back, and has lost a page since.
func TestMapRemovedAfterEviction(t *testing.T) {
	w, m, _ := newLoneWorker(t, spec{Writable: true, Limit: 1})
	evict := func() {
		m.Limit = pageSize
		m.makeRoom(w.scratch)
		m.Limit = m.Size
	}
	off, _ := m.extent(3)
	w.answers(t, m, uffd.FaultWrite, 3)
	evict()
	if !m.table.spilled.get(3) {
		t.Fatal("frame 3 was not spilled")
	}
	w.answers(t, m, uffd.FaultWrite, 3)
	want := bytes.Repeat([]byte{1}, pageSize)
	must(t, "write", pwriteFull(m.memory, want, off))
	punchPage(t, m, off+pageSize)
	m.handing.RLock()
	copied, err := m.takeFrame(make([]byte, m.FrameSize), 3)
	must(t, "copy", err)
	handOver(t, m, copied)
	w.answers(t, m, uffd.FaultWP|uffd.FaultWrite, 3) // Another page of it is written.
	m.committed(3)
	punchPage(t, m, off)
	w.answers(t, m, 0, 3)
	got := make([]byte, pageSize)
	must(t, "read", m.readMemory(got, off))
	same(t, "page", got, want)
}
