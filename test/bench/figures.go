package main

import (
	"maps"
	"slices"
)

// figures are what was measured: by what, by whom, a value for each round.
type figures map[string]map[string]*series

// A series is one figure of one peer.
type series struct {
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`

	bins map[float64]float64 // microseconds and how many, of all rounds
}

func (f figures) of(what, who string) *series {
	if f[what] == nil {
		f[what] = map[string]*series{}
	}
	if f[what][who] == nil {
		f[what][who] = &series{bins: map[float64]float64{}}
	}
	return f[what][who]
}

func (f figures) has(what, who string) bool { return f[what] != nil && f[what][who] != nil }

func (f figures) add(what, who string, v float64) {
	s := f.of(what, who)
	s.Values = append(s.Values, v)
	sorted := slices.Sorted(slices.Values(s.Values))
	n := len(sorted)
	s.Median = (sorted[(n-1)/2] + sorted[n/2]) / 2
	s.Min, s.Max = sorted[0], sorted[n-1]
}

func (f figures) addBin(what, who string, us, n float64) { f.of(what+" bins", who).bins[us] += n }

// A point of a distribution: this share of all is at most so long.
type point struct{ us, share float64 }

// distribution is that of the latencies of a job, from the shortest on.
func (s *series) distribution() []point {
	total, sum := 0.0, 0.0
	for _, n := range s.bins {
		total += n
	}
	var points []point
	for _, us := range slices.Sorted(maps.Keys(s.bins)) {
		sum += s.bins[us]
		points = append(points, point{us, sum / total})
	}
	return points
}
