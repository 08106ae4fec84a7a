package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"lazyfs/uffdmap"
)

// withMap maps the store at path, does do, and closes it.
func withMap(path string, o uffdmap.Options, do func(m *uffdmap.Mapping) (float64, error)) (float64, error) {
	m, err := uffdmap.Map(path, o)
	if err != nil {
		return 0, err
	}
	value, err := do(m)
	return value, errors.Join(err, m.Close())
}

// each is the median of the microseconds that do takes for some of the frames of
// a mapping.
func each(do func(frame int)) float64 {
	const frame, touches = 16 << 10, 4000
	var took []time.Duration
	for _, n := range someOf(touches, plainSize/frame) {
		begin := time.Now()
		do(n * frame)
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return microseconds(took[len(took)/2])
}

// bytesRandom reads a byte of random absent frames.
func bytesRandom(s stores) (float64, error) {
	return withMap(s.frames, uffdmap.Options{}, func(m *uffdmap.Mapping) (float64, error) {
		b := m.Bytes()
		return each(func(at int) { seen.Store(int32(b[at])) }), nil
	})
}

// bytesWrite writes to random resident frames for the first time.
func bytesWrite(s stores) (float64, error) {
	return withMap(s.frames, uffdmap.Options{Private: true}, func(m *uffdmap.Mapping) (float64, error) {
		if err := m.Prefetch(uffdmap.Range{Len: m.Size()}); err != nil {
			return 0, err
		}
		b := m.Bytes()
		touchPages(b)
		return each(func(at int) { b[at] = 2 }), nil
	})
}

// bytesSequential reads a byte of each page, in order.
func bytesSequential(s stores) (float64, error) {
	return withMap(s.frames, uffdmap.Options{}, func(m *uffdmap.Mapping) (float64, error) {
		begin := time.Now()
		touchPages(m.Bytes())
		return gigabytes(plainSize, begin), nil
	})
}

// bytesPrefetch asks for the whole mapping at once.
func bytesPrefetch(s stores) (float64, error) {
	return withMap(s.frames, uffdmap.Options{}, func(m *uffdmap.Mapping) (float64, error) {
		begin := time.Now()
		err := m.Prefetch(uffdmap.Range{Len: m.Size()})
		return gigabytes(plainSize, begin), err
	})
}

// bytesAgain reads what is in memory.
func bytesAgain(s stores) (float64, error) {
	return withMap(s.frames, uffdmap.Options{}, func(m *uffdmap.Mapping) (float64, error) {
		if err := m.Prefetch(uffdmap.Range{Len: m.Size()}); err != nil {
			return 0, err
		}
		touchPages(m.Bytes())
		return readAgain(m.Bytes()), nil
	})
}

// bytesSync writes one page in a hundred at random, and syncs.
func bytesSync(s stores) (float64, error) {
	warm(largeSize)
	return withMap(s.large(), uffdmap.Options{Writable: true}, func(m *uffdmap.Mapping) (float64, error) {
		if err := m.Prefetch(uffdmap.Range{Len: m.Size()}); err != nil {
			return 0, err
		}
		return syncedPages(m.Bytes(), m.Sync)
	})
}

// mapFirst is the time from Map, its helper's start included, until a byte of a
// huge store is read.
func mapFirst(s stores) (float64, error) {
	begin := time.Now()
	return withMap(s.huge(), uffdmap.Options{}, func(m *uffdmap.Mapping) (float64, error) {
		if m.Bytes()[hugeSize/2-9] != 's' {
			return 0, errors.New("the byte is wrong")
		}
		return milliseconds(time.Since(begin)), nil
	})
}

// written writes a share of the pages of a mapping of 1 GiB at random, and
// collects them.
func written(s stores, share float64) (float64, error) {
	warm(largeSize)
	return withMap(s.large(), uffdmap.Options{Private: true}, func(m *uffdmap.Mapping) (float64, error) {
		if err := errors.Join(m.Prefetch(uffdmap.Range{Len: m.Size()}), m.Protect()); err != nil {
			return 0, err
		}
		b := m.Bytes()
		touchPages(b)
		pages := someOf(int(largeSize/pageSize*share), largeSize/pageSize)
		begin := time.Now()
		for _, p := range pages {
			b[p*pageSize] = 2
		}
		got := int64(0)
		for r := range m.Written() {
			got += r.Len
		}
		if err := m.Protect(); err != nil {
			return 0, err
		}
		took := milliseconds(time.Since(begin))
		if got < int64(len(pages))*pageSize {
			return 0, fmt.Errorf("%d bytes were collected, %d pages written", got, len(pages))
		}
		return took, nil
	})
}
