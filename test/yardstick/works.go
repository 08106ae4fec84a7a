package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lazyfs/codec"
	"lazyfs/store"
	"lazyfs/uffdmap"
)

// works are lazyfs's side, by their names. Throughput is in GB/s, times in
// microseconds unless the table of rows says milliseconds.
var works = map[string]func(s stores) (float64, error){
	"decode":          decode,
	"compress":        compress,
	"compress-store":  compressAndStore,
	"heap-again":      heapAgain,
	"view-rand":       viewRandom,
	"view-seq":        func(s stores) (float64, error) { return viewSequential(s, 1) },
	"view-seq-two":    func(s stores) (float64, error) { return viewSequential(s, 2) },
	"view-write":      viewWrite,
	"view-collect":    viewCollect,
	"view-sync":       viewSync,
	"open-first":      openFirst,
	"bytes-rand":      bytesRandom,
	"bytes-seq":       bytesSequential,
	"bytes-again":     bytesAgain,
	"bytes-prefetch":  bytesPrefetch,
	"bytes-write":     bytesWrite,
	"bytes-sync":      bytesSync,
	"map-first":       mapFirst,
	"track-0.1%":      func(stores) (float64, error) { return track(0.001) },
	"track-1%":        func(stores) (float64, error) { return track(0.01) },
	"track-10%":       func(stores) (float64, error) { return track(0.1) },
	"track-100%":      func(stores) (float64, error) { return track(1) },
	"view-rand-cold":  viewRandomCold,
	"view-seq-cold":   viewSequentialCold,
	"bytes-rand-cold": func(s stores) (float64, error) { return bytesCold(s, inDisorder) },
	"bytes-seq-cold":  func(s stores) (float64, error) { return bytesCold(s, inOrder) },
	"erofs-rand-cold": func(s stores) (float64, error) { return erofsCold(s, inDisorder) },
	"erofs-seq-cold":  func(s stores) (float64, error) { return erofsCold(s, inOrder) },
	"file-rand-cold":  func(s stores) (float64, error) { return fileCold(s, inDisorder) },
	"file-seq-cold":   func(s stores) (float64, error) { return fileCold(s, inOrder) },
	"file-rand":       func(s stores) (float64, error) { return fileCached(s, inDisorder) },
	"file-seq":        func(s stores) (float64, error) { return fileCached(s, inOrder) },
	"written-0.1%":    func(s stores) (float64, error) { return written(s, 0.001) },
	"written-1%":      func(s stores) (float64, error) { return written(s, 0.01) },
	"written-10%":     func(s stores) (float64, error) { return written(s, 0.1) },
	"written-100%":    func(s stores) (float64, error) { return written(s, 1) },
}

// seen keeps what was read from being optimised away.
var seen atomic.Int32

// warm touches n bytes of memory, which should be more than is needed next: the
// host of a virtual machine may have taken it back, and to get it costs more than
// anything measured here.
func warm(n int) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return
	}
	unix.Madvise(b, unix.MADV_HUGEPAGE)
	for at := 0; at < n; at += pageSize {
		b[at] = 1
	}
	unix.Munmap(b)
}

func gigabytes(n int, since time.Time) float64 {
	return float64(n) / 1e9 / time.Since(since).Seconds()
}

func microseconds(d time.Duration) float64 { return d.Seconds() * 1e6 }
func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// someOf gives n different numbers below max, in disorder.
func someOf(n, max int) []int { return rand.New(rand.NewPCG(2, 2)).Perm(max)[:n] }

// touchPages reads a byte of each page.
func touchPages(b []byte) {
	var sum byte
	for at := 0; at < len(b); at += pageSize {
		sum += b[at]
	}
	seen.Store(int32(sum))
}

// decode decompresses all frames in order on one core.
func decode(s stores) (float64, error) {
	st, err := store.Open(s.frames, store.Options{})
	if err != nil {
		return 0, err
	}
	defer st.Close()
	buf := make([]byte, st.FrameSize())
	begin := time.Now()
	for n := range st.Size() / int64(len(buf)) {
		if _, err := st.ReadFrame(n, buf); err != nil {
			return 0, err
		}
	}
	return gigabytes(int(st.Size()), begin), nil
}

// compress compresses frames like those that the syncs write, on all cores.
func compress(s stores) (float64, error) {
	st, err := store.Open(s.large(), store.Options{})
	if err != nil {
		return 0, err
	}
	defer st.Close()
	frames := framesOf(dirtyPages(), st.FrameSize())
	plain := make([][]byte, len(frames))
	for i, n := range frames {
		plain[i] = make([]byte, st.FrameSize())
		if _, err := st.ReadFrame(int64(n), plain[i]); err != nil {
			return 0, err
		}
	}
	return compressTo(plain, st.FrameSize(), nil)
}

// compressAndStore takes them from where a mapping has them, pages of 4 KiB among all
// others, copies each, since it must not change meanwhile, writes them to a new file, many
// at once, has the disk begin with them, and waits for it: what a sync can do at most.
func compressAndStore(s stores) (float64, error) {
	st, err := store.Open(s.large(), store.Options{})
	if err != nil {
		return 0, err
	}
	defer st.Close()
	b, err := unix.Mmap(-1, 0, largeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(b)
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL {
		return 0, err
	}
	size := st.FrameSize()
	for n := range largeSize / size {
		if _, err := st.ReadFrame(int64(n), b[n*size:(n+1)*size]); err != nil {
			return 0, err
		}
	}
	pages := dirtyPages()
	var plain [][]byte
	for _, n := range framesOf(pages, size) {
		plain = append(plain, b[n*size:(n+1)*size])
	}
	for _, p := range pages {
		b[p*pageSize] ^= 1
	}
	f, err := os.Create(filepath.Join(s.folder, "written"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return compressTo(plain, size, f)
}

// compressTo compresses frames of so many bytes on all cores, and stores them in f, if there
// is one.
func compressTo(plain [][]byte, size int, f *os.File) (float64, error) {
	c, err := codec.New(codec.LZ4, 0)
	if err != nil {
		return 0, err
	}
	var next, end atomic.Int64
	var all errgroup.Group
	begin := time.Now()
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() error {
			frame, buf, used := make([]byte, size), make([]byte, 256<<10), 0
			write := func() error {
				b := buf[:used]
				used = 0
				if f == nil || len(b) == 0 {
					return nil
				}
				off := end.Add(int64(len(b))) - int64(len(b))
				if _, err := f.WriteAt(b, off); err != nil {
					return err
				}
				return unix.SyncFileRange(int(f.Fd()), off, int64(len(b)), unix.SYNC_FILE_RANGE_WRITE)
			}
			for i := next.Add(1) - 1; i < int64(len(plain)); i = next.Add(1) - 1 {
				if len(buf)-used < size {
					if err := write(); err != nil {
						return err
					}
				}
				p := plain[i]
				if f != nil {
					copy(frame, p)
					p = frame
				}
				n, _ := c.Encode(buf[used:used+size], p)
				used += n
			}
			return write()
		})
	}
	err = all.Wait()
	if f != nil && err == nil {
		err = unix.Fdatasync(int(f.Fd()))
	}
	return gigabytes(len(plain)*size, begin), err
}

// dirtyPages are one page in a hundred of the large store, at random.
func dirtyPages() []int { return someOf(largeSize/pageSize/100, largeSize/pageSize) }

// framesOf are the frames that pages lie in, each once.
func framesOf(pages []int, frame int) []int {
	var frames []int
	for _, p := range pages {
		frames = append(frames, p*pageSize/frame)
	}
	slices.Sort(frames)
	return slices.Compact(frames)
}

// heapAgain reads ordinary memory.
func heapAgain(stores) (float64, error) {
	b, err := unix.Mmap(-1, 0, plainSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	for i := range b {
		b[i] = byte(i)
	}
	return readAgain(b), nil
}

// readAgain copies all of b in small pieces to one place, as reading does.
func readAgain(b []byte) float64 {
	into := make([]byte, 64<<10)
	begin := time.Now()
	for at := 0; at < len(b); at += len(into) {
		copy(into, b[at:])
	}
	return gigabytes(len(b), begin)
}

// track writes a share of the pages of 1 GiB at random, and collects them.
func track(share float64) (float64, error) {
	warm(largeSize)
	b, err := unix.Mmap(-1, 0, largeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	t, err := uffdmap.Track(b)
	if err != nil {
		return 0, err
	}
	defer t.Close()
	for at := 0; at < len(b); at += pageSize {
		b[at] = 1
	}
	if err := t.Protect(); err != nil {
		return 0, err
	}
	pages := someOf(int(largeSize/pageSize*share), largeSize/pageSize)
	begin := time.Now()
	for _, p := range pages {
		b[p*pageSize] = 2
	}
	got := int64(0)
	for r := range t.Written() {
		got += r.Len / pageSize
	}
	took := milliseconds(time.Since(begin))
	if got != int64(len(pages)) {
		return 0, fmt.Errorf("%d pages were collected, %d written", got, len(pages))
	}
	return took, nil
}
