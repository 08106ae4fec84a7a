package store

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
)

// benchPack packs the file plain into one that did not exist.
func benchPack(b *testing.B, plain *os.File, name string, o CreateOptions) Info {
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := plain.Seek(0, io.SeekStart); err != nil {
		b.Fatal(err)
	}
	info, err := Pack(context.Background(), f, plain, PackOptions{CreateOptions: o})
	if err != nil {
		b.Fatal(err)
	}
	return info
}

// BenchmarkPack packs a file, beside the codec compressing the same frames in one
// goroutine, and beside mksquashfs where that is installed. Pack ends with
// fsync, and so does mksquashfs here.
func BenchmarkPack(b *testing.B) {
	plain := corpus(b)
	folder := b.TempDir()
	src, err := os.Create(filepath.Join(folder, "plain"))
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	if _, err := src.Write(plain); err != nil {
		b.Fatal(err)
	}
	src.Sync()
	cores := float64(runtime.GOMAXPROCS(0))
	for _, c := range []struct {
		id     codec.ID
		frame  int
		squash []string
	}{
		{codec.LZ4, 16 << 10, []string{"-comp", "lz4"}},
		{codec.Zstd, 64 << 10, []string{"-comp", "zstd", "-Xcompression-level", "3"}},
	} {
		name := fmt.Sprintf("pack, %v %dK", c.id, c.frame>>10)
		b.Run(name, func(b *testing.B) {
			out, img := filepath.Join(folder, "x.lazy"), filepath.Join(folder, "x.squashfs")
			var info Info
			ours := &lane{name: "Pack", prepare: func() { os.Remove(out) }, run: func() {
				info = benchPack(b, src, out, CreateOptions{Codec: c.id, FrameSize: c.frame})
			}}
			bare := &lane{name: fmt.Sprintf("%.0f × codec", cores), run: func() { encodeAll(b, plain, c.id, c.frame) }}
			bareIO := &lane{name: "codec + bare I/O", prepare: func() { os.Remove(out) }, run: func() {
				packBare(b, src, int64(len(plain)), out, c.id, c.frame)
			}}
			parts := slices.Collect(slices.Chunk(plain, (len(plain)/int(cores)+c.frame)&^(c.frame-1)))
			all := &lane{name: "codec on all cores", run: func() {
				var encode []func()
				for _, part := range parts {
					encode = append(encode, func() { encodeAll(b, part, c.id, c.frame) })
				}
				inParallel(encode...)
			}}
			lanes := []*lane{ours, bare, all, bareIO}
			squash := &lane{name: "mksquashfs + fsync", prepare: func() { os.Remove(img) }, run: func() {
				squashfs(b, append([]string{src.Name(), img, "-b", fmt.Sprint(c.frame), "-processors", fmt.Sprint(cores)}, c.squash...))
			}}
			if _, err := exec.LookPath("mksquashfs"); err == nil {
				lanes = append(lanes, squash)
			}
			race(b, 1, lanes...)
			size := float64(len(plain))
			faster(name, ours, size, bare, cores*size, 0.9)
			faster(name, ours, size, all, size, 0.9)
			faster(name, ours, size, bareIO, size, 0.95)
			if len(squash.times) == 0 {
				return
			}
			faster(name, ours, size, squash, size, 1)
			fi, err := os.Stat(img)
			if err != nil {
				b.Fatal(err)
			}
			o, y := size/float64(info.FileSize), size/float64(fi.Size())
			figures = append(figures, figure{what: name + ", plain : stored", ours: fmt.Sprintf("%.3f", o),
				yardstick: fmt.Sprintf("%.3f squashfs", y), ratio: o / y, target: "≥ 0.98", met: o/y >= 0.98})
		})
	}
}

// encodeAll compresses plain frame by frame.
func encodeAll(b *testing.B, plain []byte, id codec.ID, frame int) {
	c, err := codec.New(id, 0)
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, frame)
	for off := 0; off < len(plain); off += frame {
		c.Encode(dst, plain[off:min(off+frame, len(plain))])
	}
}

// packBare is the least that any packer does: on all cores it reads the file src, of
// size bytes, compresses it frame by frame, computes checksums and writes the result,
// which is made durable, to a new file. No order is kept and no index written.
func packBare(b *testing.B, src *os.File, size int64, name string, id codec.ID, frame int) {
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	c, err := codec.New(id, 0)
	if err != nil {
		b.Fatal(err)
	}
	var next, end, begun atomic.Int64
	work := func() {
		plain, stored := make([]byte, packChunk), make([]byte, 0, 2*packChunk)
		for off := next.Add(packChunk) - packChunk; off < size; off = next.Add(packChunk) - packChunk {
			n, err := src.ReadAt(plain, off)
			if err != nil && err != io.EOF {
				b.Error(err)
			}
			stored = stored[:0]
			for p := plain[:n]; len(p) > 0; p = p[min(len(p), frame):] {
				dst := stored[len(stored) : len(stored)+frame-frame/minSaving]
				got, err := c.Encode(dst, p[:min(len(p), frame)])
				if err != nil {
					got = copy(stored[len(stored):len(stored)+frame], p)
				}
				dst = stored[len(stored) : len(stored)+got]
				crc32.Update(0, castagnoli, dst)
				stored = stored[:len(stored)+got]
			}
			to := end.Add(int64(len(stored)))
			if _, err := f.WriteAt(stored, to-int64(len(stored))); err != nil {
				b.Error(err)
			}
			if from := begun.Load(); to-from >= writeBehind && begun.CompareAndSwap(from, to) {
				unix.SyncFileRange(int(f.Fd()), from, to-from, unix.SYNC_FILE_RANGE_WRITE)
			}
		}
	}
	inParallel(slices.Repeat([]func(){work}, runtime.GOMAXPROCS(0))...)
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}

// squashfs runs mksquashfs SRC IMG ... and makes the image durable.
func squashfs(b *testing.B, args []string) {
	cmd := exec.Command("mksquashfs", append(args, "-noappend", "-quiet", "-no-progress")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %v: %s", cmd, err, out)
	}
	f, err := os.Open(args[1])
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPackMemory shows the most memory of a process that packs: this program
// once more, which finds the name of its input in packChild.
func BenchmarkPackMemory(b *testing.B) {
	const packChild = "LAZYFS_BENCH_PACK"
	if name := os.Getenv(packChild); name != "" {
		src, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		defer src.Close()
		benchPack(b, src, name+".lazy", CreateOptions{FrameSize: MaxFrameSize})
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			b.Fatal(err)
		}
		os.Stderr.Write(status)
		return
	}
	name := filepath.Join(b.TempDir(), "plain")
	if err := os.WriteFile(name, corpus(b), 0o600); err != nil {
		b.Fatal(err)
	}
	var peak float64
	for b.Loop() {
		cmd := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkPackMemory$", "-test.benchtime=1x")
		cmd.Env = append(os.Environ(), packChild+"="+name)
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		_, kib, _ := strings.Cut(string(out), "VmHWM:")
		var hwm float64
		fmt.Sscan(kib, &hwm)
		peak = max(peak, hwm/1024)
	}
	limit := 64 + 8*runtime.GOMAXPROCS(0)*MaxFrameSize>>20
	atMost("memory of pack, 1 MiB frames", peak, float64(limit), "%.0f MiB")
}
