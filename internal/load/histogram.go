package load

import (
	"iter"
	"math"
	"math/bits"
	"time"
)

// A Latency collects durations, exact in number, least, greatest and mean, and
// within 1/128 in their distribution.
type Latency struct {
	spread[time.Duration] // in nanoseconds
	buckets               [bucketCount]int64
}

// Samples are figures that were taken at regular times.
type Samples = spread[float64]

// A spread collects figures, exact in number, least, greatest and mean.
type spread[T time.Duration | float64] struct {
	N        int64
	Min, Max T

	sum, squares float64
}

// Buckets are those of fio, so that percentiles are the same numbers: below
// 2^(bucketBits+1) ns each nanosecond has its own, from there on each power of
// two is divided into 2^bucketBits.
const (
	bucketBits  = 6
	bucketCount = 36 << bucketBits // up to 36 minutes; what is longer counts as that
)

// bucketOf is the bucket of a duration of ns nanoseconds.
func bucketOf(ns uint64) int {
	shift := max(bits.Len64(ns)-1-bucketBits, 0)
	if shift == 0 {
		return int(ns)
	}
	return min((shift+1)<<bucketBits+int(ns>>shift)&(1<<bucketBits-1), bucketCount-1)
}

// bucketValue is the middle of a bucket, in nanoseconds.
func bucketValue(i int) int64 {
	if i < 2<<bucketBits {
		return int64(i)
	}
	shift := i>>bucketBits - 1
	return (1<<bucketBits+int64(i)&(1<<bucketBits-1))<<shift + 1<<(shift-1)
}

func (l *Latency) add(d time.Duration) {
	l.spread.add(d)
	l.buckets[bucketOf(uint64(max(d, 0)))]++
}

// merge adds what m has collected.
func (l *Latency) merge(m *Latency) {
	l.spread.merge(&m.spread)
	for i, n := range m.buckets {
		l.buckets[i] += n
	}
}

func (s *spread[T]) add(v T) {
	if s.N == 0 || v < s.Min {
		s.Min = v
	}
	s.N++
	s.Max = max(s.Max, v)
	s.sum += float64(v)
	s.squares += float64(v) * float64(v)
}

// merge adds the figures of t.
func (s *spread[T]) merge(t *spread[T]) {
	if t.N == 0 {
		return
	}
	if s.N == 0 || t.Min < s.Min {
		s.Min = t.Min
	}
	s.N += t.N
	s.Max = max(s.Max, t.Max)
	s.sum += t.sum
	s.squares += t.squares
}

func (s *spread[T]) mean() float64 {
	if s.N == 0 {
		return 0
	}
	return s.sum / float64(s.N)
}

// deviation is the standard deviation, of a sample.
func (s *spread[T]) deviation() float64 {
	if s.N < 2 {
		return 0
	}
	n := float64(s.N)
	return math.Sqrt(max(s.squares-s.sum*s.sum/n, 0) / (n - 1))
}

// percentiles are those that fio prints unless it is told otherwise.
var percentiles = []float64{1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99}

// percentileValues are the nanoseconds that belong to percentiles; nil of nothing.
func (l *Latency) percentileValues() []int64 {
	if l.N == 0 {
		return nil
	}
	values := make([]int64, 0, len(percentiles))
	sum := int64(0)
	for ns, n := range l.all() {
		sum += n
		for len(values) < len(percentiles) && float64(sum) >= percentiles[len(values)]/100*float64(l.N) {
			values = append(values, ns)
		}
	}
	return values
}

// all yields the middle of each bucket that is not empty, in nanoseconds, and
// how many durations are in it.
func (l *Latency) all() iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		for i, n := range l.buckets {
			if n > 0 && !yield(bucketValue(i), n) {
				return
			}
		}
	}
}
