package picture

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"
)

var (
	red  = color.RGBA{200, 0, 0, 255}
	blue = color.RGBA{0, 0, 200, 255}
)

func drawn(t *testing.T, p Picture) image.Image {
	t.Helper()
	var file bytes.Buffer
	if err := p.WritePNG(&file); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&file)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// striped is a panel of count things: red ones, and each every-th of them blue.
func striped(count, every int64) Panel {
	return Panel{
		Title: "stripes",
		Count: count,
		Colors: func(yield func(int64, color.RGBA) bool) {
			for i := int64(0); i < count; i += every {
				red := func(n int64) bool { return n == 0 || yield(n, red) }
				if !yield(1, blue) || !red(min(every, count-i)-1) {
					return
				}
			}
		},
		Label: func(int64) string { return "" },
		Cell:  func(int64) string { return "" },
	}
}

// area counts the pixels of a colour.
func area(img image.Image, want color.RGBA) (n int) {
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			if color.RGBAModel.Convert(img.At(x, y)) == want {
				n++
			}
		}
	}
	return n
}

// Where there is room each thing has a cell of its own, all of one size.
func TestCells(t *testing.T) {
	for _, count := range []int64{1, 10, 1000, 20000} {
		img := drawn(t, Picture{Panels: []Panel{striped(count, 5)}})
		blues, reds := int64(area(img, blue)), int64(area(img, red))
		things := (count + 4) / 5
		if cell := blues / things; cell == 0 || blues != things*cell || reds != (count-things)*cell {
			t.Errorf("%d things, %d of them blue: %d blue pixels and %d red ones, want the same number for each", count, things, blues, reds)
		}
	}
}

// Of very many things a cell shows several, in their mean colour, and the picture
// stays as large as it was.
func TestManyThings(t *testing.T) {
	const count = 1 << 33
	p := striped(count, 1<<40)
	p.Colors = func(yield func(int64, color.RGBA) bool) {
		for range 1 << 10 {
			if !yield(count>>11, red) || !yield(count>>11, blue) {
				return
			}
		}
	}
	img := drawn(t, Picture{Panels: []Panel{p}})
	if b := img.Bounds(); b.Dx() != width || b.Dy() > gridHeight+200 {
		t.Errorf("the picture has %v pixels, want %d wide and about %d high", b.Size(), width, gridHeight)
	}
	reds, blues := area(img, red), area(img, blue)
	if reds == 0 || blues == 0 || max(reds, blues)-min(reds, blues) > reds/10 {
		t.Errorf("%d red pixels and %d blue ones, want as many", reds, blues)
	}

	mixed := drawn(t, Picture{Panels: []Panel{striped(1<<22, 2)}})
	if want := Blend([]color.RGBA{red, blue}, 0.5); area(mixed, want) == 0 || area(mixed, red)+area(mixed, blue) > 0 {
		t.Errorf("half red, half blue: %d pixels of the mean %v, %d red, %d blue; want only the mean",
			area(mixed, want), want, area(mixed, red), area(mixed, blue))
	}
}

// Long texts are cut at the picture's edge, and a long legend takes several rows.
func TestLongTexts(t *testing.T) {
	long := strings.Repeat("long text ", 40)
	key := Key{Colors: []color.RGBA{red}, Text: "a part of the legend"}
	one := drawn(t, Picture{Legend: []Key{key}})
	img := drawn(t, Picture{Title: long, Lines: []string{long}, Legend: []Key{key, key, key, key, key, key, key, key}})
	if img.Bounds().Dy() <= one.Bounds().Dy()+lineHeight {
		t.Errorf("eight entries of a legend take %v, as one does", img.Bounds().Size())
	}
	if got, want := area(img, red), 8*area(one, red); got != want {
		t.Errorf("the legend has %d red pixels, want %d", got, want)
	}
	for y := range img.Bounds().Dy() {
		for x := width - margin + 1; x < width; x++ {
			if color.RGBAModel.Convert(img.At(x, y)) != paper {
				t.Fatalf("ink at %d, %d, in the margin", x, y)
			}
		}
	}
}

// A picture of nothing has its title and no cells.
func TestNothing(t *testing.T) {
	p := striped(0, 1)
	if img := drawn(t, Picture{Title: "empty", Panels: []Panel{p}}); area(img, paper) == 0 || area(img, blue) > 0 {
		t.Error("an empty panel has cells")
	}
}

func TestBlend(t *testing.T) {
	for _, c := range []struct {
		colors []color.RGBA
		t      float64
		want   color.RGBA
	}{
		{[]color.RGBA{red}, 0.7, red},
		{[]color.RGBA{red, blue}, -1, red},
		{[]color.RGBA{red, blue}, 2, blue},
		{[]color.RGBA{red, blue, red}, 0.5, blue},
	} {
		if got := Blend(c.colors, c.t); got != c.want {
			t.Errorf("Blend(%v, %v) = %v, want %v", c.colors, c.t, got, c.want)
		}
	}
}
