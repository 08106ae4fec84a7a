package uffdmap

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// A Tracker tells which pages of some memory were written since they were last
// collected, without a store and without a fault handler: the kernel notes the
// first write to a page, which costs about a microsecond, and the writer goes
// on. Its methods may be called from many goroutines at once, beside writers.
type Tracker struct {
	base    uintptr
	len     uintptr
	uffd    *uffd.FD
	pagemap int

	mu      sync.Mutex // guards what follows
	closed  bool
	pending []Range // collected, and not yet handed out
	regions [256]uffd.Region
}

// Track begins to track writes to mem: whole pages of private anonymous or
// shared memory that the caller has mapped, outside Go's heap, and keeps mapped
// until Close. It asks the kernel not to use huge pages there. Until Protect is
// called every page counts as written.
//
// A kernel that can't do it (Linux 6.7 can) gives ErrUnsupported.
func Track(mem []byte) (*Tracker, error) {
	t, err := newTracker(mem)
	if err != nil {
		return nil, fmt.Errorf("track %#x bytes of memory: %w", len(mem), err)
	}
	return t, nil
}

func newTracker(mem []byte) (*Tracker, error) {
	t := &Tracker{base: address(mem), len: uintptr(len(mem))}
	if t.len == 0 || t.base%store.PageSize != 0 || t.len%store.PageSize != 0 {
		return nil, fmt.Errorf("memory at %#x is not whole pages of %d bytes: %w", t.base, store.PageSize, unix.EINVAL)
	}
	if err := refuseHugePages(mem); err != nil {
		return nil, err
	}
	var err error
	if t.pagemap, err = uffd.OpenPagemap(0); err != nil {
		return nil, err
	}
	if t.uffd, err = uffd.Open(uffd.FeatureWPAsync|uffd.FeatureWPUnpopulated, uffd.FeatureWPHugetlbfsShmem); err != nil {
		unix.Close(t.pagemap)
		return nil, err
	}
	if err := t.uffd.Register(t.base, t.len, uffd.ModeWP); err != nil {
		unix.Close(t.pagemap)
		return nil, errors.Join(err, t.uffd.Close())
	}
	return t, nil
}

// Protect makes every page count as not written from now on.
func (t *Tracker) Protect() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("protect tracked memory: %w", os.ErrClosed)
	}
	t.pending = nil
	if err := t.uffd.WriteProtect(t.base, t.len, true, false); err != nil {
		return fmt.Errorf("protect %#x bytes at %#x: %w", t.len, t.base, err)
	}
	return nil
}

// Written hands out the ranges that were written since Protect, or since they
// were last handed out, and makes their pages count as not written again. Pages of
// private memory that the program gave back to the kernel count as written; those
// of shared memory do not, though they are zeros after MADV_REMOVE. Offsets are
// from the beginning of the memory.
//
// A write that is finished when the loop begins is in it; one that happens
// meanwhile is in it or in the next. What a loop does not take, because it ends
// early, is left for the next one. After Close there is nothing.
func (t *Tracker) Written() iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for at := uintptr(0); ; {
			r, ok := t.next(&at)
			if !ok || !yield(r) {
				return
			}
		}
	}
}

// next takes the next range of a loop, whose scans have come to offset at.
func (t *Tracker) next(at *uintptr) (Range, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.closed && len(t.pending) == 0 && *at < t.len {
		*at = t.collect(*at)
	}
	if t.closed || len(t.pending) == 0 {
		return Range{}, false
	}
	r := t.pending[0]
	t.pending = t.pending[1:]
	return r, true
}

// collect scans from offset at on and returns how far it got.
func (t *Tracker) collect(at uintptr) uintptr {
	n, stopped, err := uffd.PagemapScan(t.pagemap, uffd.Scan{
		Start: t.base + at, End: t.base + t.len,
		Flags: uffd.ScanWPMatching | uffd.ScanCheckWPAsync,
		// The kernel is fastest when asked for nothing else.
		Mask: uffd.PageWritten, Return: uffd.PageWritten,
	}, t.regions[:])
	if err != nil {
		// Part of the memory is no longer mapped as it was. What can't be known
		// to be clean is written.
		t.pending = []Range{{int64(at), int64(t.len - at)}}
		return t.len
	}
	t.pending = nil
	for _, r := range t.regions[:n] {
		t.pending = append(t.pending, Range{int64(r.Start - t.base), int64(r.End - r.Start)})
	}
	return stopped - t.base
}

// Close ends the tracking and leaves the memory as it is.
func (t *Tracker) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("close tracker: %w", os.ErrClosed)
	}
	t.closed = true
	unix.Close(t.pagemap)
	return errors.Join(t.uffd.Unregister(t.base, t.len), t.uffd.Close())
}
