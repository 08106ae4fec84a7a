package picture

import (
	"fmt"
	"image"
	"image/color"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

type fonts struct{ plain, bold, title font.Face }

func loadFonts() (*fonts, error) {
	var f fonts
	for _, l := range []struct {
		face *font.Face
		ttf  []byte
		size float64 // pixels
	}{{&f.plain, goregular.TTF, 13}, {&f.bold, gobold.TTF, 13}, {&f.title, gobold.TTF, 20}} {
		parsed, err := opentype.Parse(l.ttf)
		if err != nil {
			return nil, fmt.Errorf("read font: %w", err)
		}
		*l.face, err = opentype.NewFace(parsed, &opentype.FaceOptions{Size: l.size, DPI: 72, Hinting: font.HintingFull})
		if err != nil {
			return nil, fmt.Errorf("read font: %w", err)
		}
	}
	return &f, nil
}

// width is that of plain text, in pixels.
func (f *fonts) width(s string) int { return font.MeasureString(f.plain, s).Ceil() }

// text draws s with its base line at y, shortened where it does not fit.
func (c *canvas) text(x, y int, s string, face font.Face, col color.RGBA) {
	for runes := []rune(s); x+font.MeasureString(face, s).Ceil() > width-margin && len(runes) > 1; {
		runes = runes[:len(runes)-1]
		s = string(runes) + "…"
	}
	d := font.Drawer{Dst: c.image, Src: image.NewUniform(col), Face: face, Dot: fixed.P(x, y)}
	d.DrawString(s)
}

// wrap breaks a legend into rows that fit.
func (f *fonts) wrap(keys []Key) [][]Key {
	var rows [][]Key
	x := width
	for _, k := range keys {
		w := swatchWidth + 8 + f.width(k.Text) + 24
		if x+w > width-margin+24 {
			rows = append(rows, nil)
			x = margin
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], k)
		x += w
	}
	return rows
}
