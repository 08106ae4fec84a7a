package uffdmap

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// dirtyPages are the page numbers in v.Dirty.
func dirtyPages(v *Viewer) []int64 {
	var pages []int64
	for r := range v.Dirty() {
		for off := r.Off; off < r.End(); off += store.PageSize {
			pages = append(pages, off/store.PageSize)
		}
	}
	return pages
}

// Dirty names exactly the pages that were written, with and without a limit,
// among syncs, reads and evictions; the store then holds exactly what was written.
// Where the kernel does not track writes, it names all pages of every Edit.
func TestDirtyIsExact(t *testing.T) {
	for _, mask := range []string{"", "wp_async", "pagemap_scan"} {
		for _, limit := range []int64{0, 512 << 10} {
			t.Run(fmt.Sprintf("mask %q limit %d", mask, limit), func(t *testing.T) {
				t.Setenv("LAZYFS_MASK_UFFD", mask)
				testDirty(t, mask == "", limit)
			})
		}
	}
}

func testDirty(t *testing.T, exact bool, limit int64) {
	rnd := newRand(t)
	model := plainBytes(rnd, 2<<20+5000)
	path := newStore(t, model, 16<<10)
	v := openView(t, path, Options{Writable: true, MemoryLimit: limit})
	if v.tracked() != exact {
		t.Fatalf("tracked by the kernel is %v, want %v", v.tracked(), exact)
	}
	dirty := map[int64]bool{}
	for range 2000 {
		off := rnd.IntN(len(model))
		n := 1 + rnd.IntN(min(len(model)-off, 40_000))
		switch rnd.IntN(8) {
		case 0: // Look only.
			s, err := v.View(int64(off), int64(n))
			must(t, "view", err)
			same(t, "view", s.Bytes(), model[off:off+n])
			s.Release()
		case 1, 2: // Edit, and write one byte in it, or none.
			s, err := v.Edit(int64(off), int64(n))
			must(t, "edit", err)
			if at := rnd.IntN(2 * n); at < n {
				s.Bytes()[at]++
				model[off+at]++
				dirty[int64(off+at)/store.PageSize] = true
			}
			s.Release()
			for at := off &^ (store.PageSize - 1); at < off+n && !exact; at += store.PageSize {
				dirty[int64(at)/store.PageSize] = true
			}
		case 3: // Write bytes.
			if rnd.IntN(4) == 0 {
				off &^= 16<<10 - 1 // Whole frames, perhaps absent ones.
				n = min(32<<10, len(model)-off)
			}
			p := plainBytes(rnd, n)
			_, err := v.WriteAt(p, int64(off))
			must(t, "write", err)
			copy(model[off:], p)
			for at := off &^ (store.PageSize - 1); at < off+n; at += store.PageSize {
				dirty[int64(at)/store.PageSize] = true
			}
		case 4:
			if rnd.IntN(20) == 0 {
				must(t, "sync", v.Sync())
				clear(dirty)
			}
		case 5:
			must(t, "prefetch", v.Prefetch(Range{int64(off), int64(min(n, 100_000))}))
		default:
			if rnd.IntN(10) > 0 {
				break
			}
			want := slices.Sorted(maps.Keys(dirty))
			if got := dirtyPages(v); !slices.Equal(got, want) {
				t.Fatalf("dirty pages %v, want %v", got, want)
			}
		}
	}
	must(t, "close", v.Close())
	same(t, "stored", stored(t, path), model)
}

// A writer that goes on while Sync runs loses nothing: what the sync did not
// take is dirty afterwards, and the next one takes it.
func TestSyncAmongWriters(t *testing.T) {
	for name, mask := range map[string]string{"tracked": "", "untracked": "wp_async"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LAZYFS_MASK_UFFD", mask)
			const size = 1 << 20
			path := newStore(t, make([]byte, size), 16<<10)
			v := openView(t, path, Options{Writable: true})
			s, err := v.Edit(0, size)
			must(t, "edit", err)
			mine := bytes.Clone(s.Bytes())
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for w := range 2 {
				wg.Go(func() {
					for i := w; ; i = (i + 2*7919) % size {
						select {
						case <-stop:
							return
						default:
							s.Bytes()[i]++
							mine[i]++
						}
					}
				})
			}
			for range 20 {
				must(t, "sync", v.Sync())
			}
			close(stop)
			wg.Wait()
			must(t, "sync", v.Sync())
			same(t, "stored after the last sync", stored(t, path), mine)
			s.Release()
			must(t, "sync", v.Sync())
			if d := dirtyPages(v); len(d) != 0 {
				t.Errorf("dirty after a sync: %v, want nothing", d)
			}
		})
	}
}

// Two that sync at the same time both have their own writes in the store when
// their call returns, whoever wrote them there.
func TestSyncsTogether(t *testing.T) {
	const frame = 1 << 20
	want := make([]byte, frame)
	rand.NewChaCha8([32]byte{1}).Read(want)
	path := newStore(t, want, frame)
	v := openView(t, path, Options{Writable: true})
	var wg sync.WaitGroup
	for w := range 3 {
		off := w * 5 * store.PageSize
		wg.Go(func() {
			for i := range 20 {
				if _, err := v.WriteAt([]byte{byte(i)}, int64(off)); err != nil {
					t.Error(err)
				}
				if err := v.Sync(); err != nil {
					t.Error(err)
				}
				if got := storedByte(path, off); got != i {
					t.Errorf("writer %d: stored byte after sync is %d, want %d", w, got, i)
				}
			}
		})
	}
	wg.Wait()
}

// storedByte reads a byte of the store at path as it is now, -1 on an error.
func storedByte(path string, off int) int {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return -1
	}
	defer s.Close()
	var b [1]byte
	if _, err := s.ReadAt(b[:], int64(off)); err != nil {
		return -1
	}
	return int(b[0])
}

// Frames that were written back by an eviction stay dirty when the commit that
// was to name them fails.
func TestFailedCommit(t *testing.T) {
	const frame = 16 << 10
	v := openView(t, newStore(t, make([]byte, 64*frame), frame), Options{Writable: true, MemoryLimit: 4 * frame})
	_, err := v.WriteAt([]byte{1}, 0)
	must(t, "write", err)
	_, err = v.ReadAt(make([]byte, 32*frame), 32*frame)
	must(t, "read", err)
	if v.frames[0].Load() != 0 {
		t.Fatal("frame 0 was not evicted")
	}
	must(t, "close the store beneath", v.store.Discard())
	if err := v.Sync(); err == nil {
		t.Error("sync to a closed store works")
	}
	if d := dirtyPages(v); !slices.Equal(d, []int64{0}) {
		t.Errorf("dirty after a failed commit: %v, want page 0", d)
	}
}

// When the sync of a Close fails the store stays as it was at the Sync before,
// although some of what was written could have been stored.
func TestFailedClose(t *testing.T) {
	const frame = 16 << 10
	want := make([]byte, 64*frame)
	path := newStore(t, want, frame)
	v := openView(t, path, Options{Writable: true})
	for _, n := range []int64{0, 63} {
		_, err := v.WriteAt([]byte{1}, n*frame)
		must(t, "write", err)
	}
	must(t, "take the last frame away", v.store.Truncate(63*frame))
	if err := v.Close(); err == nil {
		t.Error("close works, want the error of the last frame")
	}
	same(t, "stored", stored(t, path), want)
}

// Without a Sync the store stays as it was; a Private mapping never changes it,
// and takes no lock.
func TestStoreUntouched(t *testing.T) {
	want := bytes.Repeat([]byte("old "), 10_000)
	path := newStore(t, want, 4096)
	v := openView(t, path, Options{Private: true})
	w := openView(t, path, Options{Writable: true})
	for _, m := range []*Viewer{v, w} {
		_, err := m.WriteAt([]byte("new"), 8000)
		must(t, "write", err)
	}
	must(t, "sync of a private mapping", v.Sync())
	if d := dirtyPages(v); !slices.Equal(d, []int64{1}) {
		t.Errorf("private pages dirty after sync: %v, want page 1", d)
	}
	same(t, "stored before sync", stored(t, path), want)
	must(t, "close of a private mapping", v.Close())
	same(t, "stored after close of the private mapping", stored(t, path), want)
	must(t, "sync", w.Sync())
	copy(want[8000:], "new")
	same(t, "stored after sync", stored(t, path), want)
}

// The second writer of a store is refused, and told who holds it; readers are not.
func TestLocked(t *testing.T) {
	path := newStore(t, make([]byte, 10_000), 4096)
	v := openView(t, path, Options{Writable: true})
	_, err := Open(path, Options{Writable: true})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("second writer: %v, want ErrLocked and process %d", err, os.Getpid())
	}
	must(t, "close of a reader", openView(t, path, Options{}).Close())
	must(t, "close", v.Close())
	must(t, "close of the next writer", openView(t, path, Options{Writable: true}).Close())
}

// A disk without room loses nothing: what can't be written stays in memory, above
// the limit if need be, and dirty; Sync says ENOSPC, and stores everything once
// there is room.
func TestNoSpace(t *testing.T) {
	dir := t.TempDir()
	must(t, "mount", unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "x.lazy")
	s, err := store.Create(path, store.CreateOptions{})
	must(t, "create", err)
	must(t, "grow", s.Truncate(8<<20))
	must(t, "close", s.Close())
	v := openView(t, path, Options{Writable: true, MemoryLimit: 1 << 20})
	want := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{1}).Read(want)
	for off := 0; off < len(want); off += 10_000 { // Not whole frames.
		_, err := v.WriteAt(want[off:min(off+10_000, len(want))], int64(off))
		must(t, "write", err)
	}
	if r := v.Stats().Resident; r < 4<<20 {
		t.Errorf("%d bytes resident, want what the disk could not take", r)
	}
	for range 2 {
		if err := v.Sync(); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("sync: %v, want ENOSPC", err)
		}
		if d := v.Stats().Dirty; d != int64(len(want)) {
			t.Errorf("%d bytes dirty after a failed sync, want %d", d, len(want))
		}
		got := make([]byte, len(want))
		_, err := v.ReadAt(got, 0)
		must(t, "read", err)
		same(t, "after a failed sync", got, want)
	}
	must(t, "give room", unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"))
	same(t, "stored before it worked", stored(t, path), make([]byte, len(want)))
	must(t, "sync with room", v.Sync())
	if r := v.Stats().Resident; r > 1<<20 {
		t.Errorf("%d bytes resident after a sync, want no more than the limit", r)
	}
	if d := dirtyPages(v); len(d) != 0 {
		t.Errorf("dirty after a sync: %v, want nothing", d)
	}
	must(t, "close", v.Close())
	same(t, "stored", stored(t, path), want)
}
