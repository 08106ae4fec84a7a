package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// A work is something one side does, and gives a figure for.
type work struct {
	name  string
	c     bool // done by the yardstick
	frame int  // bytes of the frames of its data
	pin   bool // done by lazyfs on one core, its helper too; the yardstick's works pin themselves
}

// ours and theirs are works on frames of 16 KiB.
func ours(name string) work   { return work{name: name, frame: 16 << 10} }
func pinned(name string) work { return work{name: name, frame: 16 << 10, pin: true} }
func theirs(name string) work { return work{name: name, c: true, frame: 16 << 10} }

// A row compares a work of lazyfs with one of the yardstick, or of lazyfs too.
type row struct {
	name string
	unit string
	our  work
	than work
	want float64 // the ratio that is aimed at; negative: at least that much; 0: none is
}

// rows is the table. A row without a work to compare with has an aim in its unit.
var rows = []row{
	{"View, random, 4 KiB frames", "us", work{name: "view-rand", frame: 4 << 10}, work{name: "self-rand", c: true, frame: 4 << 10}, 1.3},
	{"View, random, 16 KiB frames", "us", ours("view-rand"), theirs("self-rand"), 1.3},
	{"View, random, 64 KiB frames", "us", work{name: "view-rand", frame: 64 << 10}, work{name: "self-rand", c: true, frame: 64 << 10}, 1.3},
	{"View, random, 4 KiB stored frames", "us", work{name: "view-rand", frame: 4 << 10}, work{name: "stored-self-rand", c: true, frame: 4 << 10}, 1.2},
	{"View, random, 16 KiB stored frames", "us", ours("view-rand"), theirs("stored-self-rand"), 1.2},
	{"View, random, 64 KiB stored frames", "us", work{name: "view-rand", frame: 64 << 10}, work{name: "stored-self-rand", c: true, frame: 64 << 10}, 1.2},
	{"Bytes, random, one core", "us", pinned("bytes-rand"), theirs("pin-rand"), 1.4},
	{"Bytes, random, one core, stored frames", "us", pinned("bytes-rand"), theirs("stored-pin-rand"), 1.2},
	{"Bytes, random", "us", ours("bytes-rand"), theirs("proc-rand"), 1},
	{"Bytes, random, against spinning", "us", ours("bytes-rand"), theirs("spin-rand"), 1},
	{"Bytes, random, spinning, stored frames", "us", ours("bytes-rand"), theirs("stored-spin-rand"), 1.2},
	{"Bytes, sequential", "GB/s", ours("bytes-seq"), theirs("proc-seq"), -1.25},
	{"Bytes, sequential, against new memory", "GB/s", ours("bytes-seq"), theirs("anon"), -1},
	{"Bytes, sequential, against filling alone", "GB/s", ours("bytes-seq"), theirs("fill-all"), -0.8},
	{"Bytes, Prefetch of all", "GB/s", ours("bytes-prefetch"), theirs("anon"), -1},
	{"Bytes, Prefetch, against filling alone", "GB/s", ours("bytes-prefetch"), theirs("fill-all"), -0.9},
	{"Bytes, again", "GB/s", ours("bytes-again"), ours("heap-again"), -0.9},
	{"View, sequential", "GB/s", ours("view-seq"), theirs("move-seq"), -1},
	{"View, sequential, two goroutines", "GB/s", ours("view-seq-two"), theirs("move-seq"), -1.7},
	{"View, sequential, two, against two threads", "GB/s", ours("view-seq-two"), theirs("move-seq-two"), -0.9},
	{"reading and decoding, one core", "GB/s", ours("decode"), theirs("decode"), -0.75},
	{"View, first write of a page", "us", ours("view-write"), theirs("wp-async"), 1.2},
	{"View, collecting 1 %", "ms", ours("view-collect"), theirs("wp-scan"), 2},
	{"Bytes, first write of a frame, one core", "us", pinned("bytes-write"), theirs("wp-sync-pin"), 1.2},
	{"Bytes, first write of a frame", "us", ours("bytes-write"), theirs("wp-sync"), 1.2},
	{"View, Sync of 1 % of 1 GiB", "GB/s", ours("view-sync"), ours("compress"), -0.8},
	{"Bytes, Sync of 1 % of 1 GiB", "GB/s", ours("bytes-sync"), ours("compress"), -0.8},
	{"View, Sync, against storing alone", "GB/s", ours("view-sync"), ours("compress-store"), -0.8},
	{"Bytes, Sync, against storing alone", "GB/s", ours("bytes-sync"), ours("compress-store"), -0.8},
	{"Open to first byte, 1 TiB", "ms", ours("open-first"), work{}, 5},
	{"Map to first byte, 1 TiB", "ms", ours("map-first"), work{}, 30},
	{"Bytes, random, cold, mmap of EROFS-lz4", "us", ours("bytes-rand-cold"), ours("erofs-rand-cold"), 0},
	{"Bytes, random, cold, mmap of plain file", "us", ours("bytes-rand-cold"), ours("file-rand-cold"), 0},
	{"Bytes, random, cold, mmap of cached file", "us", ours("bytes-rand-cold"), ours("file-rand"), 0},
	{"Bytes, sequential, cold, mmap of EROFS-lz4", "GB/s", ours("bytes-seq-cold"), ours("erofs-seq-cold"), 0},
	{"Bytes, sequential, cold, mmap of plain file", "GB/s", ours("bytes-seq-cold"), ours("file-seq-cold"), 0},
	{"Bytes, sequential, cold, mmap of cached file", "GB/s", ours("bytes-seq-cold"), ours("file-seq"), 0},
	{"View, random, cold, mmap of EROFS-lz4", "us", ours("view-rand-cold"), ours("erofs-rand-cold"), 0},
	{"View, random, cold, mmap of plain file", "us", ours("view-rand-cold"), ours("file-rand-cold"), 0},
	{"View, random, cold, mmap of cached file", "us", ours("view-rand-cold"), ours("file-rand"), 0},
	{"View, sequential, cold, mmap of EROFS-lz4", "GB/s", ours("view-seq-cold"), ours("erofs-seq-cold"), 0},
	{"View, sequential, cold, mmap of plain file", "GB/s", ours("view-seq-cold"), ours("file-seq-cold"), 0},
	{"View, sequential, cold, mmap of cached file", "GB/s", ours("view-seq-cold"), ours("file-seq"), 0},
	{"Track, 0.1 % of 1 GiB written", "ms", ours("track-0.1%"), theirs("segv-0.1%"), 1},
	{"Track, 1 %", "ms", ours("track-1%"), theirs("segv-1%"), 1},
	{"Track, 10 %", "ms", ours("track-10%"), theirs("segv-10%"), 1},
	{"Track, 100 %", "ms", ours("track-100%"), theirs("segv-100%"), 1},
	{"Map's Written, 0.1 % of 1 GiB written", "ms", ours("written-0.1%"), theirs("segv-0.1%"), 1},
	{"Map's Written, 1 %", "ms", ours("written-1%"), theirs("segv-1%"), 1},
	{"Map's Written, 10 %", "ms", ours("written-10%"), theirs("segv-10%"), 1},
	{"Map's Written, 100 %", "ms", ours("written-100%"), theirs("segv-100%"), 1},
}

// choose returns the rows whose names contain one of the words, all without words.
func choose(words []string) []row {
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		return len(words) > 0 && !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(r.name, w) })
	})
}

// worksOf lists the works of the rows, each once.
func worksOf(rows []row) []work {
	var all []work
	for _, r := range rows {
		for _, w := range []work{r.our, r.than} {
			if w.name != "" && !slices.Contains(all, w) {
				all = append(all, w)
			}
		}
	}
	return all
}

func printTable(out io.Writer, rows []row, values map[work][]float64) {
	fmt.Fprintf(out, "%-42s %9s  %9s  %-5s %6s  %s\n", "medians", "lazyfs", "yardstick", "", "ratio", "aim")
	for _, r := range rows {
		our, than := median(values[r.our]), median(values[r.than])
		line := fmt.Sprintf("%-42s %9s  %9s  %-5s %6s  %s", r.name, figure(our), figure(than), r.unit, figure(our/than), r.verdict(our, than))
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
}

// verdict says what was aimed at, and when it was missed.
func (r row) verdict(our, than float64) string {
	if r.want == 0 {
		return ""
	}
	got, unit := our/than, ""
	if r.than.name == "" {
		got, unit = our, " "+r.unit
	}
	aim, missed := fmt.Sprintf("<= %v%s", r.want, unit), got > r.want
	if r.want < 0 {
		aim, missed = fmt.Sprintf(">= %v%s", -r.want, unit), got < -r.want
	}
	if missed { // Never for NaN.
		aim += "  missed"
	}
	return aim
}

// figure writes three digits, or what stands for a figure that there isn't.
func figure(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// median is NaN when there is no figure, or one was not to be had.
func median(values []float64) float64 {
	if len(values) == 0 || slices.ContainsFunc(values, math.IsNaN) {
		return math.NaN()
	}
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
