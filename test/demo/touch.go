package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"lazyfs/store"
	"lazyfs/uffdmap"
)

// pages is the number of random pages that are touched.
const pages = 1000

// touch touches the same random pages through both kinds of mapping.
func touch(path, plain string) error {
	want, err := os.Open(plain)
	if err != nil {
		return err
	}
	defer want.Close()
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return err
	}
	frames := (s.Size() + int64(s.FrameSize()) - 1) / int64(s.FrameSize())
	if err := s.Close(); err != nil {
		return err
	}

	v, err := uffdmap.Open(path, uffdmap.Options{})
	if err != nil {
		return err
	}
	defer v.Close()
	offsets := randomPages(v.Size())
	var buf [store.PageSize]byte
	spent, err := touchAll(offsets, want, func(off int64) ([]byte, error) {
		span, err := v.View(off, store.PageSize)
		if err != nil {
			return nil, err
		}
		defer span.Release()
		return append(buf[:0], span.Bytes()...), nil
	})
	if err != nil {
		return err
	}
	tell("View", spent, v.Stats(), frames)

	m, err := uffdmap.Map(path, uffdmap.Options{})
	if err != nil {
		return err
	}
	defer m.Close()
	spent, err = touchAll(offsets, want, func(off int64) ([]byte, error) {
		return append(buf[:0], m.Bytes()[off:off+store.PageSize]...), nil
	})
	if err != nil {
		return err
	}
	tell("Bytes", spent, m.Stats(), frames)
	return nil
}

// randomPages gives the offsets of random whole pages of size bytes.
func randomPages(size int64) []int64 {
	offsets := make([]int64, pages)
	for i := range offsets {
		offsets[i] = rand.Int64N(size/store.PageSize) * store.PageSize
	}
	return offsets
}

// touchAll reads the page at each offset, and compares it with the plain file
// afterwards. It returns the time that the touching took.
func touchAll(offsets []int64, plain *os.File, page func(off int64) ([]byte, error)) (time.Duration, error) {
	var spent time.Duration
	want := make([]byte, store.PageSize)
	for _, off := range offsets {
		start := time.Now()
		got, err := page(off)
		spent += time.Since(start)
		if err != nil {
			return 0, err
		}
		if _, err := plain.ReadAt(want, off); err != nil {
			return 0, err
		}
		if !bytes.Equal(got, want) {
			return 0, fmt.Errorf("page at %#x is not that of %s", off, plain.Name())
		}
	}
	return spent, nil
}

// tell says what touching cost.
func tell(kind string, spent time.Duration, s uffdmap.Stats, frames int64) {
	fmt.Printf("%-5s  %d random pages, all right; %.1f µs each; %d of %d frames were decompressed (%.1f %%)\n",
		kind, pages, float64(spent.Microseconds())/pages, s.Frames, frames, 100*float64(s.Frames)/float64(frames))
}
