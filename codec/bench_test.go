package codec_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lazyfs/codec"
)

// sampleLen is the length of the benchmarks' plain data, in bytes.
const sampleLen = 4 << 20

// sample returns real data of many kinds: a part from the middle of the Go
// command and Go's sources, half each.
func sample(b *testing.B) []byte {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	root := strings.TrimSpace(string(out))
	program, err := os.ReadFile(filepath.Join(root, "bin", "go"))
	if err != nil {
		b.Fatal(err)
	}
	half := (len(program) - sampleLen/2) / 2
	data := append([]byte{}, program[half:half+sampleLen/2]...)
	sources, err := filepath.Glob(filepath.Join(root, "src", "*", "*", "*.go"))
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range sources {
		text, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		if data = append(data, text...); len(data) >= sampleLen {
			return data[:sampleLen]
		}
	}
	b.Fatalf("%s holds %d bytes of sources, want %d", root, len(data), sampleLen)
	return nil
}

// forFrames runs f for the codecs' main levels and frame sizes with the sample
// cut into frames.
func forFrames(b *testing.B, f func(b *testing.B, c codec.Codec, frames [][]byte)) {
	data := sample(b)
	for _, kind := range []struct {
		id    codec.ID
		level int
	}{{codec.LZ4, 0}, {codec.LZ4, 1}, {codec.LZ4, 5}, {codec.LZ4, 9}, {codec.Zstd, 1}, {codec.Zstd, 3}, {codec.Zstd, 6}, {codec.Zstd, 10}, {codec.Gzip, 6}} {
		for _, size := range []int{4 << 10, 16 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%v-%d/%dK", kind.id, kind.level, size>>10), func(b *testing.B) {
				var frames [][]byte
				for off := 0; off < len(data); off += size {
					frames = append(frames, data[off:off+size:off+size])
				}
				b.SetBytes(int64(size))
				f(b, mustNew(b, kind.id, kind.level), frames)
			})
		}
	}
}

// BenchmarkEncode also reports the ratio of plain to stored bytes of the frames
// it encoded, which says something when it went round all of them.
func BenchmarkEncode(b *testing.B) {
	forFrames(b, func(b *testing.B, c codec.Codec, frames [][]byte) {
		dst := make([]byte, 2*len(frames[0]))
		var plain, stored int
		for i := 0; b.Loop(); i++ {
			src := frames[i%len(frames)]
			n, err := c.Encode(dst, src)
			if err != nil {
				b.Fatal(err)
			}
			plain, stored = plain+len(src), stored+n
		}
		b.ReportMetric(float64(plain)/float64(stored), "ratio")
	})
}

func BenchmarkDecode(b *testing.B) {
	forFrames(b, func(b *testing.B, c codec.Codec, frames [][]byte) {
		dst := make([]byte, len(frames[0]))
		stored := make([][]byte, len(frames))
		for i, src := range frames {
			stored[i] = encode(b, c, src)
		}
		for i := 0; b.Loop(); i++ {
			if _, err := c.Decode(dst, stored[i%len(stored)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
