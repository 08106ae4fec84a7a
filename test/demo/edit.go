package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"lazyfs/uffdmap"
)

const (
	edits   = 100 // in each kind of mapping
	editLen = 16  // bytes
)

// edit turns over the bits of random bytes, half of them through each kind of
// mapping, and writes the offsets of all changed bytes to the file list.
func edit(path, list string) error {
	v, err := uffdmap.Open(path, uffdmap.Options{Writable: true})
	if err != nil {
		return err
	}
	places := randomPlaces(v.Size(), 2*edits)
	if err := editView(v, places[:edits]); err != nil {
		return err
	}
	m, err := uffdmap.Map(path, uffdmap.Options{Writable: true})
	if err != nil {
		return err
	}
	if err := editBytes(m, places[edits:]); err != nil {
		return err
	}
	return writeList(list, places)
}

func editView(v *uffdmap.Viewer, places []int64) error {
	defer v.Close()
	for _, off := range places {
		span, err := v.Edit(off, editLen)
		if err != nil {
			return err
		}
		turnOver(span.Bytes())
		span.Release()
	}
	return sync("Edit", v)
}

func editBytes(m *uffdmap.Mapping, places []int64) error {
	defer m.Close()
	for _, off := range places {
		turnOver(m.Bytes()[off : off+editLen])
	}
	return sync("Bytes", m)
}

func turnOver(b []byte) {
	for i := range b {
		b[i] = ^b[i]
	}
}

// sync writes back what was changed through either kind of mapping.
func sync(kind string, x interface {
	Sync() error
	Stats() uffdmap.Stats
}) error {
	dirty := x.Stats().Dirty
	start := time.Now()
	if err := x.Sync(); err != nil {
		return err
	}
	fmt.Printf("%-5s  %d bytes changed in %d places; %d KiB were dirty; Sync wrote %d frames in %.1f ms\n",
		kind, edits*editLen, edits, dirty>>10, x.Stats().WrittenBack, float64(time.Since(start).Microseconds())/1000)
	return nil
}

// randomPlaces gives n offsets below size in random order, at which editLen
// bytes do not overlap.
func randomPlaces(size int64, n int) []int64 {
	taken := make(map[int64]bool)
	var places []int64
	for len(places) < n {
		if off := rand.Int64N(size/editLen) * editLen; !taken[off] {
			taken[off] = true
			places = append(places, off)
		}
	}
	return places
}

// writeList writes the offsets of all changed bytes, one a line, in order.
func writeList(path string, places []int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for _, off := range slices.Sorted(slices.Values(places)) {
		for i := range int64(editLen) {
			fmt.Fprintln(w, off+i)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
