package picture

import (
	"image/color"
	"math"
)

func (m *mean) color() color.RGBA {
	value := func(sum float64) uint8 { return uint8(math.Sqrt(sum/float64(m.n)) + 0.5) }
	return color.RGBA{value(m.r), value(m.g), value(m.b), 255}
}

// Blend is the colour at place t, 0 to 1, of colours that pass into each other.
func Blend(colors []color.RGBA, t float64) color.RGBA {
	t = min(max(t, 0), 1) * float64(len(colors)-1)
	i := min(int(t), max(len(colors)-2, 0))
	var m mean
	part := int64((t - float64(i)) * 1000)
	m.add(colors[i], 1000-part)
	m.add(colors[min(i+1, len(colors)-1)], part)
	return m.color()
}
