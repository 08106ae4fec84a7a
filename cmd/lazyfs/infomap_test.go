package main

import (
	"image/color"
	"slices"
	"testing"

	"lazyfs/internal/picture"
	"lazyfs/store"
)

// cells are the colours of a panel, one by one.
func cells(p picture.Panel) (all []color.RGBA) {
	for n, c := range p.Colors {
		all = append(all, slices.Repeat([]color.RGBA{c}, int(n))...)
	}
	return all
}

// Each frame is drawn at its place, in the plain bytes and in the store's file, and what
// lies between has its own colour.
func TestPanels(t *testing.T) {
	a, b, c := color.RGBA{R: 1}, color.RGBA{R: 2}, color.RGBA{R: 3}
	frames := []drawnFrame{
		{n: 1, off: 4 * fileUnit, stored: 2 * fileUnit, color: a},
		{n: 2, off: 2 * fileUnit, stored: fileUnit + 1, color: b},
		{n: 4, color: c}, // takes no room
	}
	hole, other := kindColors["hole"][0], otherColor
	if got, want := cells(plainPanel(frames, 6, 4096)), []color.RGBA{hole, a, b, hole, c, hole}; !slices.Equal(got, want) {
		t.Errorf("plain bytes: %v, want %v", got, want)
	}
	info := store.Info{FileSize: 7*fileUnit - 1}
	if got, want := cells(filePanel(frames, info)), []color.RGBA{other, other, b, b, a, a, other}; !slices.Equal(got, want) {
		t.Errorf("the store's file: %v, want %v", got, want)
	}
}
