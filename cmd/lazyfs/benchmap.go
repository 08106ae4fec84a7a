package main

import (
	"fmt"
	"image/color"
	"iter"
	"path/filepath"
	"sync/atomic"

	"lazyfs/internal/load"
	"lazyfs/internal/picture"
	"lazyfs/store"
)

// A touchedPages is a mapping that notes which pages are read and written, and
// which were seen in memory.
type touchedPages struct {
	mapping
	read, written, seen pageBits
}

func watchTouches(t benchTarget) *touchedPages {
	words := (t.size()/store.PageSize + 64) / 64
	return &touchedPages{t.(mapping), make(pageBits, words), make(pageBits, words), make(pageBits, words)}
}

// look adds what is in memory now to each of sets.
func (t *touchedPages) look(sets ...pageBits) {
	for r := range t.Resident() {
		for _, set := range sets {
			set.add(r.Off, r.Len)
		}
	}
}

func (t *touchedPages) ReadAt(p []byte, off int64) (int, error) {
	t.read.add(off, int64(len(p)))
	return t.mapping.ReadAt(p, off)
}

func (t *touchedPages) WriteAt(p []byte, off int64) (int, error) {
	t.written.add(off, int64(len(p)))
	return t.mapping.WriteAt(p, off)
}

// pageBits is a set of pages.
type pageBits []atomic.Uint64

// add adds the pages of n bytes at off.
func (b pageBits) add(off, n int64) {
	for page := off / store.PageSize; page <= (off+n-1)/store.PageSize; page++ {
		if w, bit := &b[page/64], uint64(1)<<(page%64); w.Load()&bit == 0 {
			w.Or(bit)
		}
	}
}

func (b pageBits) has(page int64) bool { return b[page/64].Load()&(1<<(page%64)) != 0 }

// What can have happened to a page, and its colour. Together they can be told
// apart by people who don't see all colours.
var pageKinds = []struct {
	color   color.RGBA
	meaning string
}{
	pageAbsent:         {color.RGBA{236, 236, 236, 255}, "neither touched nor in memory"},
	pageAhead:          {color.RGBA{158, 212, 240, 255}, "filled ahead or with a neighbour, not touched"},
	pageAheadEvicted:   {color.RGBA{240, 228, 66, 255}, "filled ahead, evicted untouched"},
	pageRead:           {color.RGBA{0, 114, 178, 255}, "read"},
	pageWritten:        {color.RGBA{213, 94, 0, 255}, "written"},
	pageEvicted:        {color.RGBA{110, 110, 110, 255}, "read, then evicted"},
	pageEvictedWritten: {color.RGBA{94, 42, 0, 255}, "written, then evicted"},
}

const (
	pageAbsent = iota
	pageAhead
	pageAheadEvicted
	pageRead
	pageWritten
	pageEvicted
	pageEvictedWritten
)

func (t *touchedPages) kind(page int64, resident pageBits) int {
	in := resident.has(page)
	switch {
	case t.written.has(page) && in:
		return pageWritten
	case t.written.has(page):
		return pageEvictedWritten
	case t.read.has(page) && in:
		return pageRead
	case t.read.has(page):
		return pageEvicted
	case in:
		return pageAhead
	case t.seen.has(page):
		return pageAheadEvicted
	}
	return pageAbsent
}

// kinds yields runs of pages of one kind, in their order. Where nothing happened it does
// not look at each page.
func (t *touchedPages) kinds(resident pageBits) iter.Seq2[int, int64] {
	pages := t.pages()
	return func(yield func(kind int, n int64) bool) {
		for page := int64(0); page < pages; {
			kind, n := pageAbsent, min(64, pages-page)
			if w := page / 64; page%64 != 0 || t.read[w].Load()|t.written[w].Load()|t.seen[w].Load() != 0 {
				kind, n = t.kind(page, resident), 1
			}
			if !yield(kind, n) {
				return
			}
			page += n
		}
	}
}

func (t *touchedPages) pages() int64 { return (t.size() + store.PageSize - 1) / store.PageSize }

// draw draws a picture of the pages of the store at path after a run with o.
func (t *touchedPages) draw(png *newFile, path string, o *load.Options) error {
	resident := make(pageBits, len(t.seen))
	t.look(resident, t.seen)
	pages := t.pages()
	counts := make([]int64, len(pageKinds))
	for kind, n := range t.kinds(resident) {
		counts[kind] += n
	}
	s := t.Stats()
	p := picture.Picture{
		Title: fmt.Sprintf("Pages of %s after %s", filepath.Base(path), o.Name),
		Lines: []string{
			fmt.Sprintf("%s of plain bytes in %d pages of 4 KiB; blocks of %s, %s", humanSize(t.size()), pages, humanSize(o.Block), count(o.Jobs, "job")),
			fmt.Sprintf("%d faults, %d frames filled (%d of them ahead of the first touch), %d evicted, %d written back; %s in memory at the end",
				s.Faults, s.Frames, s.Ahead, s.Evicted, s.WrittenBack, humanSize(s.Resident)),
		},
		Panels: []picture.Panel{{
			Title: "Pages in the order of their offsets",
			Count: pages,
			Colors: func(yield func(int64, color.RGBA) bool) {
				for kind, n := range t.kinds(resident) {
					if !yield(n, pageKinds[kind].color) {
						return
					}
				}
			},
			Label: func(page int64) string { return humanSize(page * store.PageSize) },
			Cell: func(n int64) string {
				return fmt.Sprintf("%s, %s", count(int(n), "page"), humanSize(n*store.PageSize))
			},
		}},
	}
	for k, kind := range pageKinds {
		p.Legend = append(p.Legend, picture.Key{
			Colors: []color.RGBA{kind.color},
			Text:   fmt.Sprintf("%s: %.1f%%", kind.meaning, 100*float64(counts[k])/float64(max(pages, 1))),
		})
	}
	return writePicture(png, &p)
}

// writePicture writes a picture and finishes its file.
func writePicture(png *newFile, p *picture.Picture) error {
	if err := p.WritePNG(png); err != nil {
		return err
	}
	return png.finish(nil)
}
