package uffdmap

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// trackedMemory maps n pages, private or shared, and tracks them.
func trackedMemory(t *testing.T, n int, flags int) ([]byte, *Tracker) {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n*store.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|flags)
	must(t, "mmap", err)
	t.Cleanup(func() { unix.Munmap(b) })
	tr, err := Track(b)
	must(t, "track", err)
	t.Cleanup(func() { tr.Close() })
	return b, tr
}

// writtenPages are the page numbers in t.Written.
func writtenPages(t *Tracker) []int {
	var pages []int
	for r := range t.Written() {
		for off := r.Off; off < r.End(); off += store.PageSize {
			pages = append(pages, int(off/store.PageSize))
		}
	}
	return pages
}

// After Protect, exactly the pages that were written show, once: the first byte
// that is written to a page, absent before or not, is enough; reading is nothing.
// A private page that was given back to the kernel counts.
func TestTrackIsExact(t *testing.T) {
	for name, flags := range map[string]int{"private": unix.MAP_PRIVATE, "shared": unix.MAP_SHARED} {
		t.Run(name, func(t *testing.T) {
			const pages = 2000
			rnd := newRand(t)
			b, tr := trackedMemory(t, pages, flags)
			for i := 0; i < pages; i += 2 {
				b[i*store.PageSize] = 1
			}
			must(t, "protect", tr.Protect())
			if got := writtenPages(tr); len(got) != 0 {
				t.Fatalf("after Protect %v are written, want nothing", got)
			}
			sum := byte(0)
			for range 200 {
				want := map[int]bool{}
				for range rnd.IntN(50) {
					i, at := rnd.IntN(pages), rnd.IntN(store.PageSize)
					if rnd.IntN(3) == 0 {
						sum += b[i*store.PageSize+at]
						continue
					}
					b[i*store.PageSize+at]++
					want[i] = true
				}
				if i := rnd.IntN(pages); name == "private" {
					must(t, "madvise", unix.Madvise(b[i*store.PageSize:(i+1)*store.PageSize], unix.MADV_DONTNEED))
					want[i] = true
				}
				got := writtenPages(tr)
				for _, i := range got {
					if !want[i] {
						t.Errorf("page %d shows and was not written", i)
					}
					delete(want, i)
				}
				if len(want) > 0 {
					t.Fatalf("pages %v were written and don't show", want)
				}
			}
		})
	}
}

// A write is in the collection that begins after it, or before: none is lost
// while writers and collectors run. Each writer counts up its own slot in random
// pages; a copy that is brought up to date with collected pages only must equal
// the memory in the end.
func TestTrackAmongWriters(t *testing.T) {
	const pages, writers = 512, 4
	b, tr := trackedMemory(t, pages, unix.MAP_PRIVATE)
	must(t, "protect", tr.Protect())
	slots := func(page int) *[writers]atomic.Uint64 {
		return (*[writers]atomic.Uint64)(ptr(b, page*store.PageSize+64))
	}
	var copied [pages][writers]uint64
	update := func() {
		for _, page := range writtenPages(tr) {
			for w := range writers {
				copied[page][w] = slots(page)[w].Load()
			}
		}
	}
	seed := newRand(t).Uint64()
	var running atomic.Int32
	var wg sync.WaitGroup
	for w := range writers {
		running.Add(1)
		wg.Go(func() {
			defer running.Add(-1)
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for range 200_000 {
				slots(rnd.IntN(pages))[w].Add(1)
			}
		})
	}
	for running.Load() > 0 {
		update()
	}
	wg.Wait()
	update()
	for page := range pages {
		for w := range writers {
			if got, want := copied[page][w], slots(page)[w].Load(); got != want {
				t.Errorf("page %d, writer %d: collected copy has %d, memory %d", page, w, got, want)
			}
		}
	}
}

// What a loop leaves because it ends early is in the next one, unless Protect comes
// before.
func TestTrackEarlyEnd(t *testing.T) {
	b, tr := trackedMemory(t, 1000, unix.MAP_PRIVATE)
	must(t, "protect", tr.Protect())
	var want []int
	for i := 0; i < 1000; i += 2 {
		b[i*store.PageSize] = 1
		want = append(want, i)
	}
	var got []int
	for len(got) < 300 {
		for r := range tr.Written() {
			got = append(got, int(r.Off/store.PageSize))
			break
		}
	}
	got = append(got, writtenPages(tr)...)
	if !slices.Equal(got, want) {
		t.Errorf("written pages %v, want all even ones", got)
	}
	b[0], b[2*store.PageSize] = 2, 2
	for range tr.Written() {
		break
	}
	must(t, "protect", tr.Protect())
	if got := writtenPages(tr); len(got) > 0 {
		t.Errorf("after Protect %v are written, want nothing", got)
	}
}

// What can't be known to be clean, because part of the memory is not tracked any more, is
// written, again and again.
func TestTrackLosesMemory(t *testing.T) {
	b, tr := trackedMemory(t, 10, unix.MAP_PRIVATE)
	must(t, "protect", tr.Protect())
	b[2*store.PageSize] = 1
	must(t, "unregister", tr.uffd.Unregister(tr.base+5*store.PageSize, store.PageSize))
	for range 2 {
		if got := writtenPages(tr); !slices.Contains(got, 2) || !slices.Contains(got, 5) {
			t.Errorf("written pages %v, want 2 and 5 among them", got)
		}
	}
}

// What can't be tracked is refused, with what is missing, and leaves nothing behind.
func TestTrackRefusals(t *testing.T) {
	b, err := unix.Mmap(-1, 0, 4*store.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	must(t, "mmap", err)
	defer unix.Munmap(b)
	tracked, _ := trackedMemory(t, 1, unix.MAP_PRIVATE)
	before := descriptors(t)
	if _, err := Track(tracked); !errors.Is(err, unix.EBUSY) {
		t.Errorf("track of what is tracked: %v, want EBUSY", err)
	}
	for _, part := range [][]byte{nil, b[1:], b[:100]} {
		if _, err := Track(part); !errors.Is(err, unix.EINVAL) {
			t.Errorf("track of %d bytes at %p: %v, want EINVAL", len(part), part, err)
		}
	}
	for mask, missing := range map[string]string{
		"wp_async":     "wp_async (Linux 6.7)",
		"pagemap_scan": "PAGEMAP_SCAN (Linux 6.7)",
	} {
		t.Setenv(uffd.MaskEnv, mask)
		if _, err := Track(b); !errors.Is(err, ErrUnsupported) || !strings.Contains(fmt.Sprint(err), missing) {
			t.Errorf("track without %s: %v, want ErrUnsupported naming %s", mask, err, missing)
		}
	}
	t.Setenv(uffd.MaskEnv, "dev,syscall")
	tr, err := Track(b)
	must(t, "track for user mode only", err)
	must(t, "close", tr.Close())
	if err := tr.Protect(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("protect after close: %v, want closed", err)
	}
	if err := tr.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second close: %v, want closed", err)
	}
	if got := writtenPages(tr); got != nil {
		t.Errorf("written after close: %v, want nothing", got)
	}
	tr, err = Track(b)
	must(t, "track again after close", err)
	must(t, "close", tr.Close())
	if after := descriptors(t); !maps.Equal(before, after) {
		t.Errorf("descriptors are %v, were %v", after, before)
	}
}
