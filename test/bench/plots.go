package main

import (
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

var (
	ours      = color.RGBA{0, 114, 178, 255}
	others    = color.RGBA{170, 180, 190, 255}
	tail      = color.RGBA{213, 94, 0, 255}
	spreadInk = color.RGBA{40, 40, 40, 255}
)

func newPlot(title, unit string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font.Size = 10
	p.Title.Padding = 4
	p.X.Label.Text = unit
	p.X.Label.TextStyle.Font.Size = 9
	return p
}

// who lists who has figures of something, in the order in which peers are
// measured, and the others after them.
func (b *bench) who(what string) (names []string) {
	for _, p := range b.peers {
		if b.figures.has(what, p.Name) {
			names = append(names, p.Name)
		}
	}
	for _, name := range append([]string{mappingNames["view"], mappingNames["bytes"], mappingNames["readat"]}, "plain file, mmap", handlerName) {
		if b.figures.has(what, name) {
			names = append(names, name)
		}
	}
	return names
}

// throughputs draws a plot for each work.
func (b *bench) throughputs() (plots []*plot.Plot, err error) {
	for _, w := range works {
		p, err := b.bars(w.job, w.title, w.unit+", more is better")
		if err != nil {
			return nil, err
		}
		plots = append(plots, p)
	}
	return plots, nil
}

// bars draws one figure of all, with the spread.
func (b *bench) bars(what, title, unit string) (*plot.Plot, error) {
	names := b.who(what)
	if len(names) == 0 {
		return nil, nil
	}
	p := newPlot(title, unit)
	slices.Reverse(names) // the first is on top
	for i, name := range names {
		fill := others
		if name == "lazyfs" {
			fill = ours
		}
		if err := addBar(p, float64(i), 13, b.figures.of(what, name), fill); err != nil {
			return nil, err
		}
	}
	p.NominalY(names...)
	p.X.Min = 0
	p.X.Tick.Marker = shortTicks{}
	return p, nil
}

// addBar draws a bar and its spread at height y.
func addBar(p *plot.Plot, y float64, width vg.Length, s *series, fill color.Color) error {
	bar, err := plotter.NewBarChart(plotter.Values{s.Median}, width)
	if err != nil {
		return err
	}
	bar.Horizontal, bar.XMin, bar.Color, bar.LineStyle.Width = true, y, fill, 0
	spread, err := plotter.NewXErrorBars(struct {
		plotter.XYs
		plotter.XErrors
	}{plotter.XYs{{X: s.Median, Y: y}}, plotter.XErrors{{Low: s.Median - s.Min, High: s.Max - s.Median}}})
	if err != nil {
		return err
	}
	spread.Color = spreadInk
	p.Add(bar, spread)
	return nil
}

// latencies draws a plot for each way to get at single pages.
func (b *bench) latencies() (plots []*plot.Plot, err error) {
	for _, w := range []struct{ what, title string }{
		{"random", "random read of a mount, 4 KiB"},
		{"mmap", "random touch of a mount's mapped file, 4 KiB"},
		{coldMapping, "random touch of a mapping, 16 KiB, from the disk"},
		{warmMapping, "random touch of a mapping, 16 KiB, from the page cache"},
	} {
		p, err := b.percentiles(w.what, w.title)
		if err != nil {
			return nil, err
		}
		plots = append(plots, p)
	}
	return plots, nil
}

// percentiles draws means, medians and 99th percentiles, with the spread.
func (b *bench) percentiles(what, title string) (*plot.Plot, error) {
	names := b.who(what + " mean")
	if len(names) == 0 {
		return nil, nil
	}
	p := newPlot(title, "µs, less is better (logarithmic)")
	slices.Reverse(names)
	kinds := []struct {
		name  string
		color color.Color
		shape draw.GlyphDrawer
	}{{"p50", ours, draw.CircleGlyph{}}, {"mean", spreadInk, draw.BoxGlyph{}}, {"p99", tail, draw.TriangleGlyph{}}}
	for _, k := range kinds {
		var at struct {
			plotter.XYs
			plotter.XErrors
		}
		for i, name := range names {
			if !b.figures.has(what+" "+k.name, name) {
				continue
			}
			s := b.figures.of(what+" "+k.name, name)
			at.XYs = append(at.XYs, plotter.XY{X: max(s.Median, 0.01), Y: float64(i)})
			at.XErrors = append(at.XErrors, struct{ Low, High float64 }{s.Median - max(s.Min, 0.01), s.Max - s.Median})
		}
		points, err := plotter.NewScatter(at.XYs)
		if err != nil {
			return nil, err
		}
		points.GlyphStyle = draw.GlyphStyle{Color: k.color, Radius: 3.5, Shape: k.shape}
		spread, err := plotter.NewXErrorBars(at)
		if err != nil {
			return nil, err
		}
		spread.Color = k.color
		p.Add(spread, points)
		p.Legend.Add(k.name, points)
	}
	p.NominalY(names...)
	p.Y.Max = float64(len(names)) + 0.6
	p.Legend.Top, p.Legend.Left, p.Legend.TextStyle.Font.Size = true, true, 8
	logarithmicX(p)
	return p, nil
}

func logarithmicX(p *plot.Plot) {
	p.X.Min = math.Pow(10, math.Floor(math.Log10(p.X.Min)))
	p.X.Max = math.Pow(10, math.Ceil(math.Log10(p.X.Max)))
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = plot.LogTicks{Prec: -1}
	grid := plotter.NewGrid()
	grid.Horizontal.Width = 0
	grid.Vertical.Color = color.RGBA{225, 225, 225, 255}
	p.Add(grid)
}

// distributions draws the distribution of the latency of random reads.
func (b *bench) distributions() ([]*plot.Plot, error) {
	names := b.who("random bins")
	if len(names) == 0 {
		return nil, nil
	}
	p := newPlot("Random read of 4 KiB from a mount, after a cold start: how many reads take at most so long", "µs (logarithmic)")
	p.Y.Label.Text = "% of the reads"
	for i, name := range names {
		var line plotter.XYs
		for _, at := range b.figures.of("random bins", name).distribution() {
			line = append(line, plotter.XY{X: max(at.us, 0.1), Y: 100 * at.share})
		}
		l, err := plotter.NewLine(line)
		if err != nil {
			return nil, err
		}
		l.Color, l.Width, l.Dashes = plotutil.Color(i), 1.5, plotutil.Dashes(i)
		if name == "lazyfs" {
			l.Color, l.Width, l.Dashes = ours, 3, nil
		}
		p.Add(l)
		p.Legend.Add(name, l)
	}
	p.Y.Min, p.Y.Max = 0, 100
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, 3
	logarithmicX(p)
	return []*plot.Plot{p}, nil
}

// codecPlot draws ratio and time of each codec and size of frames.
func (b *bench) codecPlot() ([]*plot.Plot, error) {
	p := newPlot("What codecs and sizes of frames cost and save", "compression ratio, more is better")
	p.Y.Label.Text = "µs to read 4 KiB (logarithmic), less is better"
	for i, codec := range codecs {
		var line plotter.XYs
		var labels []string
		for _, frame := range frameSizes {
			name := codec + " " + frame
			if b.figures.has("codec", name) {
				line = append(line, plotter.XY{X: b.figures.of("ratio", name).Median, Y: b.figures.of("codec", name).Median})
				labels = append(labels, " "+frame)
			}
		}
		if len(line) == 0 {
			continue
		}
		l, points, err := plotter.NewLinePoints(line)
		if err != nil {
			return nil, err
		}
		l.Color, points.Color = plotutil.Color(i), plotutil.Color(i)
		points.Shape, points.Radius = plotutil.Shape(i), 4
		text, err := plotter.NewLabels(plotter.XYLabels{XYs: line, Labels: labels})
		if err != nil {
			return nil, err
		}
		text.Offset = vg.Point{X: 6, Y: -8}
		p.Add(l, points, text)
		p.Legend.Add(codec+", by size of frames", l, points)
	}
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, 3
	if math.IsInf(p.Y.Min, 0) {
		return nil, nil // no codec was measured
	}
	// Room for the labels.
	p.X.Min, p.X.Max = p.X.Min-0.05, p.X.Max+0.1
	p.Y.Min, p.Y.Max = p.Y.Min/2, p.Y.Max*2
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.RGBA{225, 225, 225, 255}, color.RGBA{225, 225, 225, 255}
	p.Add(grid)
	return []*plot.Plot{p}, nil
}

// shortTicks are few ticks, with prefixes for thousands and millions.
type shortTicks struct{}

func (shortTicks) Ticks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range ticks {
		if t.Label != "" {
			ticks[i].Label = short(t.Value)
		}
	}
	return ticks
}
