package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"lazyfs/codec"
)

// benchPlain is what benchmarks pack: the file that LAZYFS_CORPUS names, or this
// package's idea of data.
func benchPlain(b *testing.B) []byte {
	if name := os.Getenv("LAZYFS_CORPUS"); name != "" {
		plain, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		return plain[:min(len(plain), 256<<20)]
	}
	return sample(64<<20, 1)
}

func benchStore(b *testing.B, plain []byte, id codec.ID, frame int) *Store {
	f := tempFile(b)
	_, err := Pack(context.Background(), f, bytes.NewReader(plain), PackOptions{CreateOptions: CreateOptions{Codec: id, FrameSize: frame}})
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(f.Name(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// bareFrames are the stored frames of s and what decoding needs of them.
func bareFrames(b *testing.B, s *Store) (payloads [][]byte, kinds []kind, plains []int) {
	err := s.idx.scan(0, s.frameCount(s.size), func(n int64, e entry) bool {
		if !e.onDisk() {
			return true
		}
		raw := make([]byte, e.stored())
		if _, err := s.d.ReadAt(raw, e.off()); err != nil {
			b.Fatal(err)
		}
		payloads = append(payloads, raw[frameHeadLen:])
		kinds, plains = append(kinds, e.kind()), append(plains, e.plain())
		return true
	})
	if err != nil {
		b.Fatal(err)
	}
	return payloads, kinds, plains
}

// BenchmarkSequential reads a store from its beginning to its end, beside the
// codec alone decoding the same frames from memory.
func BenchmarkSequential(b *testing.B) {
	plain := benchPlain(b)
	for _, c := range []struct {
		id    codec.ID
		frame int
	}{{codec.LZ4, 4 << 10}, {codec.LZ4, 16 << 10}, {codec.LZ4, 64 << 10}, {codec.Zstd, 64 << 10}} {
		s := benchStore(b, plain, c.id, c.frame)
		name := fmt.Sprintf("%v-%dK", c.id, c.frame>>10)
		b.Run(name+"/ReadAt", func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			p := make([]byte, 1<<20)
			for b.Loop() {
				for off := int64(0); off < s.size; off += int64(len(p)) {
					if _, err := s.ReadAt(p, off); err != nil && err != io.EOF {
						b.Fatal(err)
					}
				}
			}
		})
		payloads, kinds, plains := bareFrames(b, s)
		b.Run(name+"/codec", func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			p := make([]byte, 1<<20)
			for b.Loop() {
				at := 0
				for i := range payloads {
					if at+c.frame > len(p) {
						at = 0
					}
					if _, err := decoders[kinds[i]].Decode(p[at:at+plains[i]], payloads[i]); err != nil {
						b.Fatal(err)
					}
					at += c.frame
				}
			}
		})
	}
}

// BenchmarkRandom reads 4 KiB at random places without a cache, beside pread of
// the frame and decoding it.
func BenchmarkRandom(b *testing.B) {
	plain := benchPlain(b)
	for _, frame := range []int{4 << 10, 16 << 10} {
		s := benchStore(b, plain, codec.LZ4, frame)
		pages := s.size / PageSize
		p := make([]byte, PageSize)
		b.Run(fmt.Sprintf("lz4-%dK/ReadAt", frame>>10), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.ReadAt(p, r.Int64N(pages)*PageSize); err != nil {
					b.Fatal(err)
				}
			}
		})
		raw, dst := make([]byte, frameHeadLen+frame), make([]byte, frame)
		b.Run(fmt.Sprintf("lz4-%dK/bare", frame>>10), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				n := r.Int64N(pages) * PageSize >> s.shift
				e, _ := s.idx.lookup(n)
				if !e.onDisk() {
					continue
				}
				if _, err := s.f.ReadAt(raw[:e.payload()], e.off()+frameHeadLen); err != nil {
					b.Fatal(err)
				}
				if _, err := decoders[e.kind()].Decode(dst[:e.plain()], raw[:e.payload()]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPack packs from memory, beside the codec compressing the same frames
// in one goroutine.
func BenchmarkPack(b *testing.B) {
	plain := benchPlain(b)
	for _, id := range []codec.ID{codec.LZ4, codec.Zstd} {
		frame := DefaultFrameSize
		b.Run(id.String()+"/Pack", func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				f := tempFile(b)
				if _, err := Pack(context.Background(), f, bytes.NewReader(plain), PackOptions{CreateOptions: CreateOptions{Codec: id}}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(id.String()+"/codec", func(b *testing.B) {
			c, err := codec.New(id, 0)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			dst := make([]byte, frame)
			for b.Loop() {
				for off := 0; off < len(plain); off += frame {
					c.Encode(dst, plain[off:min(off+frame, len(plain))])
				}
			}
		})
	}
}

// BenchmarkCommit makes one changed page durable, beside a bare write and
// fdatasync of as many bytes.
func BenchmarkCommit(b *testing.B) {
	plain := sample(64<<20, 1)
	s := benchStore(b, plain, codec.LZ4, 4<<10)
	w, err := Open(s.Path(), Options{Writable: true})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	r := rand.New(rand.NewPCG(1, 1))
	p := make([]byte, PageSize)
	b.Run("Sync", func(b *testing.B) {
		for b.Loop() {
			off := r.Int64N(int64(len(plain))/PageSize) * PageSize
			copy(p, plain[off:])
			p[0]++
			if _, err := w.WriteAt(p, off); err != nil {
				b.Fatal(err)
			}
			if err := w.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		f := tempFile(b)
		f.WriteAt(make([]byte, 64<<20), 0)
		f.Sync()
		d := fileDisk{f}
		for b.Loop() {
			f.WriteAt(p[:2048], r.Int64N(16<<10)*PageSize)
			f.WriteAt(p, r.Int64N(16<<10)*PageSize)
			if err := d.Datasync(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
