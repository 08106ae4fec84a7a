package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"lazyfs/uffdmap"
)

// withView opens the store at path, does do, and closes it without a sync.
func withView(path string, o uffdmap.Options, do func(v *uffdmap.Viewer) (float64, error)) (float64, error) {
	v, err := uffdmap.Open(path, o)
	if err != nil {
		return 0, err
	}
	value, err := do(v)
	return value, errors.Join(err, v.Close())
}

// viewRandom views random absent frames.
func viewRandom(s stores) (float64, error) {
	return withView(s.frames, uffdmap.Options{}, func(v *uffdmap.Viewer) (float64, error) {
		frame, err := frameSize(s.frames)
		if err != nil {
			return 0, err
		}
		order := someOf(plainSize/frame, plainSize/frame)
		begin := time.Now()
		for _, n := range order {
			span, err := v.View(int64(n*frame), 1)
			if err != nil {
				return 0, err
			}
			seen.Store(int32(span.Bytes()[0]))
			span.Release()
		}
		return microseconds(time.Since(begin)) / float64(len(order)), nil
	})
}

// viewSequential views a whole store by pieces of 64 KiB, from so many goroutines
// that have a part each, and reads a byte of each page.
func viewSequential(s stores, goroutines int64) (float64, error) {
	return withView(s.frames, uffdmap.Options{}, func(v *uffdmap.Viewer) (float64, error) {
		var all sync.WaitGroup
		errs := make([]error, goroutines)
		begin := time.Now()
		for i := range goroutines {
			part := v.Size() / goroutines
			all.Go(func() { errs[i] = viewPart(v, i*part, part) })
		}
		all.Wait()
		return gigabytes(plainSize, begin), errors.Join(errs...)
	})
}

func viewPart(v *uffdmap.Viewer, off, n int64) error {
	const piece = 64 << 10
	for at := off; at < off+n; at += piece {
		span, err := v.View(at, min(piece, off+n-at))
		if err != nil {
			return err
		}
		touchPages(span.Bytes())
		span.Release()
	}
	return nil
}

// viewWrite writes to one page in ten for the first time.
func viewWrite(s stores) (float64, error) {
	return withView(s.frames, uffdmap.Options{Private: true}, func(v *uffdmap.Viewer) (float64, error) {
		span, err := v.Edit(0, v.Size())
		if err != nil {
			return 0, err
		}
		defer span.Release()
		b := span.Bytes()
		begin := time.Now()
		for at := 0; at < len(b); at += 10 * pageSize {
			b[at] = 2
		}
		return microseconds(time.Since(begin)) / float64((len(b)+10*pageSize-1)/(10*pageSize)), nil
	})
}

// viewCollect asks which pages were written, one in a hundred.
func viewCollect(s stores) (float64, error) {
	return withView(s.frames, uffdmap.Options{Private: true}, func(v *uffdmap.Viewer) (float64, error) {
		span, err := v.Edit(0, v.Size())
		if err != nil {
			return 0, err
		}
		defer span.Release()
		b := span.Bytes()
		want := int64(0)
		for at := 0; at < len(b); at += 100 * pageSize {
			b[at] = 2
			want++
		}
		begin := time.Now()
		got := int64(0)
		for r := range v.Dirty() {
			got += r.Len / pageSize
		}
		took := milliseconds(time.Since(begin))
		if got != want {
			return 0, fmt.Errorf("%d pages were collected, %d written", got, want)
		}
		return took, nil
	})
}

// viewSync writes one page in a hundred at random, and syncs.
func viewSync(s stores) (float64, error) {
	warm(largeSize)
	return withView(s.large(), uffdmap.Options{Writable: true}, func(v *uffdmap.Viewer) (float64, error) {
		span, err := v.Edit(0, v.Size())
		if err != nil {
			return 0, err
		}
		defer span.Release()
		return syncedPages(span.Bytes(), v.Sync)
	})
}

// syncedPages writes the dirty pages to b, and says how fast sync stores their
// frames.
func syncedPages(b []byte, sync func() error) (float64, error) {
	const frame = 16 << 10
	pages := dirtyPages()
	for _, p := range pages {
		b[p*pageSize] ^= 1
	}
	begin := time.Now()
	if err := sync(); err != nil {
		return 0, err
	}
	return gigabytes(len(framesOf(pages, frame))*frame, begin), nil
}

// openFirst is the time from Open until a byte of a huge store is read.
func openFirst(s stores) (float64, error) {
	begin := time.Now()
	return withView(s.huge(), uffdmap.Options{}, func(v *uffdmap.Viewer) (float64, error) {
		span, err := v.View(hugeSize/2-9, 1)
		if err != nil {
			return 0, err
		}
		defer span.Release()
		if span.Bytes()[0] != 's' {
			return 0, errors.New("the byte is wrong")
		}
		return milliseconds(time.Since(begin)), nil
	})
}
