package store

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// Each benchmark times the store and a yardstick in turns, within one run, and
// its figure is the ratio of the medians. TestMain prints them as one table,
// which `make bench-store` is for.

// A figure is one line of the table.
type figure struct {
	what      string
	ours      string
	yardstick string
	ratio     float64 // of ours to the yardstick; 0: there is none
	target    string
	met       bool
}

var figures []figure

func TestMain(m *testing.M) {
	code := m.Run()
	if len(figures) > 0 {
		printFigures(os.Stdout)
	}
	os.Exit(code)
}

func printFigures(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "\nFIGURE\tLAZYFS\tYARDSTICK\tRATIO\tTARGET\t")
	for _, f := range figures {
		ratio, verdict := "", ""
		if f.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", f.ratio)
		}
		if !f.met {
			verdict = "missed"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", f.what, f.ours, f.yardstick, ratio, f.target, verdict)
	}
	t.Flush()
}

// atMost notes a figure that has a bound of its own and no yardstick.
func atMost(what string, ours, limit float64, format string) {
	figures = append(figures, figure{what: what, ours: fmt.Sprintf(format, ours),
		target: "≤ " + fmt.Sprintf(format, limit), met: ours <= limit})
}

// A lane is one of those that race.
type lane struct {
	name    string
	prepare func() // before each turn, not timed; may be nil
	run     func()
	times   []time.Duration
}

// race lets the lanes run in turns, turns times a round.
func race(b *testing.B, turns int, lanes ...*lane) {
	for b.Loop() {
		for range turns {
			for _, l := range lanes {
				if l.prepare != nil {
					l.prepare()
				}
				begin := time.Now()
				l.run()
				l.times = append(l.times, time.Since(begin))
			}
		}
	}
	for _, l := range lanes {
		b.ReportMetric(float64(l.median().Nanoseconds()), "ns/"+strings.ReplaceAll(l.name, " ", "-"))
	}
	b.ReportMetric(0, "ns/op")
}

func (l *lane) median() time.Duration {
	slices.Sort(l.times)
	return l.times[len(l.times)/2]
}

func (l *lane) mean() time.Duration {
	var sum time.Duration
	for _, t := range l.times {
		sum += t
	}
	return sum / time.Duration(len(l.times))
}

// faster notes that ours should do size bytes at no less than least times the
// speed at which the yardstick does yardSize.
func faster(what string, ours *lane, size float64, yard *lane, yardSize, least float64) {
	o, y := size/1e6/ours.median().Seconds(), yardSize/1e6/yard.median().Seconds()
	figures = append(figures, figure{what: what, ours: fmt.Sprintf("%.0f MB/s", o),
		yardstick: fmt.Sprintf("%.0f MB/s %s", y, yard.name), ratio: o / y,
		target: fmt.Sprintf("≥ %.2f", least), met: o/y >= least})
}

// shorter notes that ours should take no more than most times as long as the
// yardstick; both do count things a turn.
func shorter(what string, ours, yard time.Duration, yardName string, count int, most float64) {
	ratio := float64(ours) / float64(yard)
	micros := func(d time.Duration) string {
		return fmt.Sprintf("%.1f µs", float64(d.Nanoseconds())/1e3/float64(count))
	}
	figures = append(figures, figure{what: what, ours: micros(ours), yardstick: micros(yard) + " " + yardName,
		ratio: ratio, target: fmt.Sprintf("≤ %.2f", most), met: ratio <= most})
}

// corpusLimit bounds the plain bytes of a benchmark.
const corpusLimit = 192 << 20

// corpus is what benchmarks pack: the beginning of the file that LAZYFS_CORPUS
// names, or of each file of the folder, or of a tar of GOROOT.
func corpus(b *testing.B) []byte {
	plain, err := readCorpus()
	if err != nil {
		b.Fatal(err)
	}
	return plain
}

var readCorpus = sync.OnceValues(func() ([]byte, error) {
	name := os.Getenv("LAZYFS_CORPUS")
	if name == "" {
		return tarGoroot()
	}
	info, err := os.Stat(name)
	if err != nil || info.IsDir() {
		return readShares(name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, corpusLimit))
})

// tarGoroot is a tar of what every machine with Go has: programs and sources.
func tarGoroot() ([]byte, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	var t limitedBuffer
	err = tar.NewWriter(&t).AddFS(os.DirFS(strings.TrimSpace(string(root))))
	if err != nil && !errors.Is(err, io.ErrShortWrite) {
		return nil, err
	}
	return t.b, nil
}

// A limitedBuffer takes corpusLimit bytes.
type limitedBuffer struct{ b []byte }

func (t *limitedBuffer) Write(p []byte) (int, error) {
	n := min(len(p), corpusLimit-len(t.b))
	t.b = append(t.b, p[:n]...)
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// readShares reads the beginning of each file of a folder, the same share of all.
func readShares(folder string) (plain []byte, err error) {
	names, sizes, total := []string{}, []int64{}, int64(0)
	err = filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			names, sizes, total = append(names, name), append(sizes, info.Size()), total+info.Size()
		}
		return err
	})
	for i, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		part := make([]byte, int64(float64(sizes[i])*min(1, corpusLimit/float64(total)))&^(PageSize-1))
		_, err = io.ReadFull(f, part)
		f.Close()
		if err != nil {
			return nil, err
		}
		plain = append(plain, part...)
	}
	return plain, err
}
