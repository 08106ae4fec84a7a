package main

import (
	"testing"

	"lazyfs/store"
)

// A sizedMapping is a mapping that has nothing but a size.
type sizedMapping struct {
	mapping
	bytes int64
}

func (m *sizedMapping) size() int64 { return m.bytes }

// Each page of a picture has its kind, and where nothing was touched no page is looked
// at by itself: of many TiB that would take minutes.
func TestPageKinds(t *testing.T) {
	const pages = 1<<20 + 7
	m := watchTouches(&sizedMapping{bytes: (pages-1)*store.PageSize + 1})
	resident := make(pageBits, len(m.seen))
	for page, set := range map[int64]pageBits{0: m.read, 63: m.written, 64: m.seen, 1000: m.read, pages - 1: m.written} {
		set.add(page*store.PageSize, 1)
	}
	for _, set := range []pageBits{resident, m.seen} {
		set.add(1000*store.PageSize, 3*store.PageSize)
	}
	page, runs := int64(0), 0
	for kind, n := range m.kinds(resident) {
		for range n {
			if want := m.kind(page, resident); kind != want {
				t.Fatalf("page %d is of kind %d, want %d", page, kind, want)
			}
			page++
		}
		runs++
	}
	if page != pages {
		t.Errorf("there are kinds of %d pages, want %d", page, pages)
	}
	if limit := pages/64 + 5*64; runs > limit {
		t.Errorf("there are %d runs, want %d at most", runs, limit)
	}
}
