package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// A picture is a file of plots side by side in rows.
type picture struct {
	file, caption string
	columns       int
	plots         func(b *bench) ([]*plot.Plot, error) // nil for what has no figures
}

// pictures are those of a report, in its order.
var pictures = []picture{
	{"throughput.png", "Throughput of mounts", 3, (*bench).throughputs},
	{"latency.png", "Latency of single pages", 2, (*bench).latencies},
	{"distribution.png", "Distribution of the latency of random reads", 1, (*bench).distributions},
	{"codecs.png", "Compression against speed", 1, (*bench).codecPlot},
}

// drawPictures draws those pictures that there are figures for, and returns them.
func (b *bench) drawPictures(out string) (drawn []picture, err error) {
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	plot.DefaultFont, plotter.DefaultFont = sans, sans
	for _, p := range pictures {
		plots, err := p.plots(b)
		if err != nil {
			return nil, fmt.Errorf("draw %s: %w", p.file, err)
		}
		plots = slices.DeleteFunc(plots, func(p *plot.Plot) bool { return p == nil })
		if len(plots) == 0 {
			continue
		}
		if err := b.savePlots(filepath.Join(out, p.file), p, plots); err != nil {
			return nil, err
		}
		drawn = append(drawn, p)
	}
	return drawn, nil
}

// savePlots writes the picture, with its caption above the plots.
func (b *bench) savePlots(file string, p picture, plots []*plot.Plot) error {
	width, height, columns := 11*vg.Centimeter, 6.6*vg.Centimeter, p.columns
	if columns == 1 {
		width, height = 22*vg.Centimeter, 13*vg.Centimeter
	}
	rows := (len(plots) + columns - 1) / columns
	grid := make([][]*plot.Plot, rows)
	for i := range grid {
		grid[i] = make([]*plot.Plot, columns)
		copy(grid[i], plots[i*columns:min((i+1)*columns, len(plots))])
	}
	const above = 1.6 * vg.Centimeter
	img := vgimg.NewWith(vgimg.UseWH(width*vg.Length(columns), height*vg.Length(rows)+above), vgimg.UseDPI(96))
	whole := draw.New(img)
	line := draw.TextStyle{Color: spreadInk, Font: font.From(plot.DefaultFont, 14), Handler: plot.DefaultTextHandler, YAlign: draw.YTop}
	whole.FillText(line, vg.Point{X: 12, Y: whole.Max.Y - 8}, p.caption)
	line.Font.Size = 9
	whole.FillText(line, vg.Point{X: 12, Y: whole.Max.Y - 27}, b.how())
	canvases := plot.Align(grid, draw.Tiles{Rows: rows, Cols: columns, PadX: 14, PadY: 14, PadTop: 8, PadBottom: 8, PadLeft: 8, PadRight: 14}, draw.Crop(whole, 0, 0, 0, -above))
	for i := range grid {
		for j, p := range grid[i] {
			if p != nil {
				p.Draw(canvases[i][j])
			}
		}
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = vgimg.PngCanvas{Canvas: img}.WriteTo(f)
	return err
}
