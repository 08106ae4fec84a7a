// Package picture draws maps of very many small things, such as the frames of a
// store, as PNG pictures that explain themselves: a title, panels of coloured
// cells with offsets beside them, and a legend.
package picture

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
)

// A Picture is what is drawn, from the top to the bottom.
type Picture struct {
	Title  string
	Lines  []string // text under the title
	Panels []Panel
	Legend []Key
}

// A Panel shows a number of things, all of one size and in their order: a cell for
// each, row by row, or, where there are too many, a cell for several, in their
// mean colour.
type Panel struct {
	Title string
	Count int64
	// Colors yields all things in their order, as runs of one colour.
	Colors func(yield func(n int64, c color.RGBA) bool)
	// Label is the text beside the row that begins with thing i.
	Label func(i int64) string
	// Cell says what n things in one cell are, such as "4 pages, 16 KiB".
	Cell func(n int64) string
}

// A Key is an entry of the legend: a colour, or several that pass into each other,
// and what they mean.
type Key struct {
	Colors []color.RGBA
	Text   string
}

// Sizes, in pixels.
const (
	width       = 1000
	margin      = 24
	labelWidth  = 88
	gridWidth   = 864 // a multiple of most cell sizes
	gridHeight  = 360 // of a panel at most
	maxCell     = 24
	lineHeight  = 20
	titleHeight = 34
	gap         = 14
	swatchWidth = 44
)

var (
	paper = color.RGBA{255, 255, 255, 255}
	ink   = color.RGBA{30, 30, 30, 255}
	faint = color.RGBA{95, 95, 95, 255}
	edge  = color.RGBA{190, 190, 190, 255}
)

// WritePNG draws the picture.
func (p *Picture) WritePNG(w io.Writer) error {
	fonts, err := loadFonts()
	if err != nil {
		return err
	}
	grids := make([]grid, len(p.Panels))
	height := margin + titleHeight + len(p.Lines)*lineHeight
	for i := range p.Panels {
		grids[i] = newGrid(&p.Panels[i])
		height += gap + lineHeight + grids[i].height()
	}
	rows := fonts.wrap(p.Legend)
	height += gap + len(rows)*(lineHeight+4) + margin
	c := &canvas{image.NewRGBA(image.Rect(0, 0, width, height)), fonts, margin}
	draw.Draw(c.image, c.image.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)

	c.text(margin, c.y+20, p.Title, fonts.title, ink)
	c.y += titleHeight
	for _, line := range p.Lines {
		c.text(margin, c.y+14, line, fonts.plain, faint)
		c.y += lineHeight
	}
	for i := range grids {
		c.y += gap
		c.panel(&grids[i])
	}
	c.y += gap
	for _, row := range rows {
		c.keys(row)
		c.y += lineHeight + 4
	}
	return png.Encode(w, c.image)
}

// A grid says how a panel is laid out.
type grid struct {
	*Panel
	cell    int   // pixels a side
	perCell int64 // things
	columns int64
	rows    int64
}

// newGrid makes the cells as large as the panel's height allows.
func newGrid(p *Panel) grid {
	g := grid{Panel: p, perCell: 1}
	for g.cell = maxCell; g.cell > 2; g.cell-- {
		if g.layOut() <= gridHeight {
			return g
		}
	}
	for g.layOut() > gridHeight {
		g.perCell *= 2
	}
	return g
}

// layOut computes columns and rows, and returns the height.
func (g *grid) layOut() int64 {
	g.columns = gridWidth / int64(g.cell)
	g.columns -= g.columns % 32 // rows begin at round offsets
	cells := (g.Count + g.perCell - 1) / g.perCell
	g.rows = max((cells+g.columns-1)/g.columns, 1)
	return g.rows * int64(g.cell)
}

func (g *grid) height() int { return int(g.rows) * g.cell }

// A canvas is drawn from the top to the bottom; y is where it goes on.
type canvas struct {
	image *image.RGBA
	fonts *fonts
	y     int
}

func (c *canvas) panel(g *grid) {
	c.text(margin, c.y+14, g.Title+" (a cell is "+g.Cell(g.perCell)+")", c.fonts.bold, ink)
	c.y += lineHeight
	left := margin + labelWidth
	// As many labels as are readable.
	step := max((lineHeight+g.cell-1)/g.cell, 1)
	for row := 0; row < int(g.rows); row += step {
		label := g.Label(int64(row) * g.columns * g.perCell)
		x := left - 8 - c.fonts.width(label)
		c.text(x, c.y+row*g.cell+11, label, c.fonts.plain, faint)
	}
	at := int64(0)
	for cell := range g.cells() {
		x, y := left+int(at%g.columns)*g.cell, c.y+int(at/g.columns)*g.cell
		c.box(x, y, g.cell, cell)
		at++
	}
	c.y += g.height()
}

// box draws a cell, with a gap between large ones.
func (c *canvas) box(x, y, size int, fill color.RGBA) {
	if size >= 5 {
		size--
	}
	draw.Draw(c.image, image.Rect(x, y, x+size, y+size), image.NewUniform(fill), image.Point{}, draw.Src)
}

// cells yields the colours of the cells.
func (g *grid) cells() func(yield func(color.RGBA) bool) {
	return func(yield func(color.RGBA) bool) {
		var m mean
		for n, col := range g.Colors {
			for n > 0 {
				take := min(n, g.perCell-m.n)
				m.add(col, take)
				n -= take
				if m.n == g.perCell {
					if !yield(m.color()) {
						return
					}
					m = mean{}
				}
			}
		}
		if m.n > 0 {
			yield(m.color())
		}
	}
}

// A mean mixes colours as light does: by the squares of their values.
type mean struct {
	n       int64
	r, g, b float64
}

func (m *mean) add(c color.RGBA, n int64) {
	w := float64(n)
	m.n += n
	m.r += w * float64(c.R) * float64(c.R)
	m.g += w * float64(c.G) * float64(c.G)
	m.b += w * float64(c.B) * float64(c.B)
}

// keys draws one row of the legend.
func (c *canvas) keys(row []Key) {
	x := margin
	for _, k := range row {
		for i := range swatchWidth {
			col := Blend(k.Colors, float64(i)/(swatchWidth-1))
			draw.Draw(c.image, image.Rect(x+i, c.y+2, x+i+1, c.y+16), image.NewUniform(col), image.Point{}, draw.Src)
		}
		c.frame(image.Rect(x-1, c.y+1, x+swatchWidth+1, c.y+17))
		x += swatchWidth + 8
		c.text(x, c.y+14, k.Text, c.fonts.plain, ink)
		x += c.fonts.width(k.Text) + 24
	}
}

// frame draws the edge of a rectangle.
func (c *canvas) frame(r image.Rectangle) {
	for x := r.Min.X; x < r.Max.X; x++ {
		c.image.SetRGBA(x, r.Min.Y, edge)
		c.image.SetRGBA(x, r.Max.Y-1, edge)
	}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		c.image.SetRGBA(r.Min.X, y, edge)
		c.image.SetRGBA(r.Max.X-1, y, edge)
	}
}
