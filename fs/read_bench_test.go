package fs_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// A benchMount is a way to show the same files: from stores, or from memory.
type benchMount struct {
	name string
	spec mountSpec
}

// benchMounts packs the file that LAZYFS_CORPUS names, or some text, at LAZYFS_LEVEL to
// a folder in memory and returns what is to be compared, the ceiling first.
func benchMounts(b *testing.B) []benchMount {
	dir := memoryFolder(b)
	plain := text(1, 256<<20)
	if name := os.Getenv("LAZYFS_CORPUS"); name != "" {
		var err error
		if plain, err = os.ReadFile(name); err != nil {
			b.Fatal(err)
		}
	}
	raw, packed := filepath.Join(dir, "raw"), filepath.Join(dir, "bench.lazy")
	if err := os.WriteFile(raw, plain, 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(packed)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var o store.PackOptions
	if level := os.Getenv("LAZYFS_LEVEL"); level != "" {
		if o.Level, err = strconv.Atoi(level); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := store.Pack(b.Context(), f, bytes.NewReader(plain), o); err != nil {
		b.Fatal(err)
	}
	return []benchMount{
		{"ceiling", mountSpec{Source: raw, Ceiling: true}},
		{"lazyfs", mountSpec{Source: packed}},
	}
}

// memoryFolder is a folder in memory.
func memoryFolder(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "lazyfs-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// fileTurns is turns for what is done with the file of benchMounts.
func fileTurns(b *testing.B, do func(f *os.File) map[string]float64) {
	turns(b, benchMounts(b), func(d *daemon) map[string]float64 {
		f, err := os.Open(d.path("bench"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		return do(f)
	})
}

// turns runs do once a round on a mount of each kind that has nothing cached, in
// turns, and reports the medians of what it returns by unit, and how many times the
// ceiling's value lazyfs's is.
func turns(b *testing.B, mounts []benchMount, do func(d *daemon) map[string]float64) {
	values := map[string]map[string][]float64{}
	for b.Loop() {
		for _, m := range mounts {
			d := start(b, m.spec)
			for unit, v := range do(d) {
				if values[unit] == nil {
					values[unit] = map[string][]float64{}
				}
				values[unit][m.name] = append(values[unit][m.name], v)
			}
			d.umount()
		}
	}
	b.ReportMetric(0, "ns/op")
	for unit, by := range values {
		c, l := median(by["ceiling"]), median(by["lazyfs"])
		b.ReportMetric(c, "ceiling-"+unit)
		b.ReportMetric(l, "lazyfs-"+unit)
		b.ReportMetric(l/c, "times-"+unit)
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// busySeconds is how long the cores of the machine have been busy, added up (proc(5)).
func busySeconds(b *testing.B) float64 {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		b.Fatal(err)
	}
	var user, nice, system, idle, wait, irq, softirq int
	if _, err := fmt.Sscanf(string(stat), "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &softirq); err != nil {
		b.Fatal(err)
	}
	return float64(user+nice+system+irq+softirq) / 100
}

// BenchmarkSequential reads the file from end to end. busy-s/GB is what reading cost
// all cores, of reader, kernel and mount.
func BenchmarkSequential(b *testing.B) {
	buf := make([]byte, 1<<20)
	fileTurns(b, func(f *os.File) map[string]float64 {
		busy := busySeconds(b)
		start := time.Now()
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
		if err != nil {
			b.Fatal(err)
		}
		cold := time.Since(start)
		busy = busySeconds(b) - busy
		start = time.Now()
		for off := int64(0); off < n; off += int64(len(buf)) {
			f.ReadAt(buf, off)
		}
		return map[string]float64{
			"MB/s":      float64(n) / 1e6 / cold.Seconds(),
			"busy-s/GB": busy / float64(n) * 1e9,
			"warm-MB/s": float64(n) / 1e6 / time.Since(start).Seconds(),
		}
	})
}

// BenchmarkRandom reads 4 KiB at random places, with one reader and with four.
func BenchmarkRandom(b *testing.B) {
	for _, jobs := range []int{1, 4} {
		b.Run(fmt.Sprintf("jobs=%d", jobs), func(b *testing.B) {
			fileTurns(b, func(f *os.File) map[string]float64 {
				unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)
				return touches(b, f, jobs, func(buf []byte, page int64) error {
					_, err := f.ReadAt(buf, page<<12)
					return err
				})
			})
		})
	}
}

// BenchmarkMapped touches pages of a mapping at random.
func BenchmarkMapped(b *testing.B) {
	fileTurns(b, func(f *os.File) map[string]float64 {
		fi, err := f.Stat()
		if err != nil {
			b.Fatal(err)
		}
		mem, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Munmap(mem)
		unix.Madvise(mem, unix.MADV_RANDOM)
		return touches(b, f, 1, func(buf []byte, page int64) error {
			copy(buf, mem[page<<12:])
			return nil
		})
	})
}

// touches calls read for 8,000 pages of f at random, from several goroutines, and
// returns the latency of one call in microseconds.
func touches(b *testing.B, f *os.File, jobs int, read func(buf []byte, page int64) error) map[string]float64 {
	const all = 8000
	fi, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	took := make([]float64, all)
	var wg sync.WaitGroup
	for j := range jobs {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(j), 1))
			buf := make([]byte, 4096)
			for i := j; i < all; i += jobs {
				start := time.Now()
				if err := read(buf, r.Int64N(fi.Size()>>12)); err != nil {
					b.Error(err)
				}
				took[i] = float64(time.Since(start).Nanoseconds()) / 1e3
			}
		})
	}
	wg.Wait()
	sum := 0.0
	for _, t := range took {
		sum += t
	}
	slices.Sort(took)
	return map[string]float64{"mean-µs": sum / all, "p99-µs": took[all*99/100]}
}
