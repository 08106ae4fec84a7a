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
			chunks := slices.Collect(slices.Chunk(plain, packChunk))
			all := &lane{name: "codec on all cores", run: func() {
				var next atomic.Int64
				inParallel(slices.Repeat([]func(){func() {
					for i := next.Add(1) - 1; i < int64(len(chunks)); i = next.Add(1) - 1 {
						encodeAll(b, chunks[i], c.id, c.frame)
					}
				}}, int(cores))...)
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
	write := func(p []byte) {
		from := end.Add(buildPiece) - buildPiece
		if _, err := f.WriteAt(p, from); err != nil {
			b.Error(err)
		}
		if old := begun.Load(); from-old >= writeBehind && begun.CompareAndSwap(old, from) {
			unix.SyncFileRange(int(f.Fd()), old, from-old, unix.SYNC_FILE_RANGE_WRITE)
			fileDisk{f}.Reserve(from, 2*writeBehind)
		}
	}
	work := func() {
		plain, stored := make([]byte, packChunk), make([]byte, 0, buildPiece+frame)
		for off := next.Add(packChunk) - packChunk; off < size; off = next.Add(packChunk) - packChunk {
			n, err := src.ReadAt(plain, off)
			if err != nil && err != io.EOF {
				b.Error(err)
			}
			for p := plain[:n]; len(p) > 0; p = p[min(len(p), frame):] {
				at := len(stored)
				got, err := c.Encode(stored[at:at+frame-frame/minSaving], p[:min(len(p), frame)])
				if err != nil {
					got = copy(stored[at:at+frame], p)
				}
				stored = stored[:at+got]
				crc32.Update(0, castagnoli, stored[at:])
				if len(stored) >= buildPiece {
					write(stored[:buildPiece])
					stored = stored[:copy(stored, stored[buildPiece:])]
				}
			}
		}
		write(stored)
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
