package store

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"lazyfs/codec"
)

// benchStore packs plain and opens the store for reading.
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

// A bareFrame is what decoding a frame needs.
type bareFrame struct {
	number  int64
	payload []byte
	entry
}

// bareFrames are the stored frames of s.
func bareFrames(b *testing.B, s *Store) (frames []bareFrame) {
	err := s.idx.scan(0, s.frameCount(s.size), func(n int64, e entry) bool {
		if !e.onDisk() {
			return true
		}
		raw := make([]byte, e.stored())
		if _, err := s.d.ReadAt(raw, e.off()); err != nil {
			b.Fatal(err)
		}
		frames = append(frames, bareFrame{n, raw[frameHeadLen:], e})
		return true
	})
	if err != nil {
		b.Fatal(err)
	}
	return frames
}

// decodeAll decodes frames into one place after the other of p.
func decodeAll(b *testing.B, frames []bareFrame, p []byte, frameSize int) {
	at := 0
	for _, f := range frames {
		if at+frameSize > len(p) {
			at = 0
		}
		if _, err := decoders[f.kind()].Decode(p[at:at+f.plain()], f.payload); err != nil {
			b.Fatal(err)
		}
		at += frameSize
	}
}

// readBare is the least that any reader of s does: it reads the file in long pieces,
// computes the checksum of each frame and decodes it, into one place after the other
// of p. frames lie side by side, as in a store that was packed.
func readBare(b *testing.B, s *Store, frames []bareFrame, p []byte) {
	raw := make([]byte, maxGather)
	at := 0
	for len(frames) > 0 {
		from, count := frames[0].off(), 1
		for count < len(frames) && frames[count].off()+int64(frames[count].stored())-from <= maxGather {
			count++
		}
		last := frames[count-1]
		if _, err := s.f.ReadAt(raw[:last.off()+int64(last.stored())-from], from); err != nil {
			b.Fatal(err)
		}
		for _, f := range frames[:count] {
			payload := raw[f.off()-from+frameHeadLen:][:f.entry.payload()]
			crc32.Update(0, castagnoli, payload)
			if at+s.frameSize > len(p) {
				at = 0
			}
			if _, err := decoders[f.kind()].Decode(p[at:at+f.plain()], payload); err != nil {
				b.Fatal(err)
			}
			at += s.frameSize
		}
		frames = frames[count:]
	}
}

// readThrough reads s from plain offset from to to.
func readThrough(b *testing.B, s *Store, p []byte, from, to int64) {
	for off := from; off < to; off += int64(len(p)) {
		if _, err := s.ReadAt(p, off); err != nil && err != io.EOF {
			b.Fatal(err)
		}
	}
}

// BenchmarkSequential reads stores from beginning to end, beside the codec alone
// decoding the same frames from memory, and with two goroutines beside one.
func BenchmarkSequential(b *testing.B) {
	plain := corpus(b)
	for _, c := range []struct {
		id    codec.ID
		frame int
	}{{codec.LZ4, 4 << 10}, {codec.LZ4, 16 << 10}, {codec.LZ4, 64 << 10}, {codec.Zstd, 64 << 10}} {
		name := fmt.Sprintf("%v %dK", c.id, c.frame>>10)
		b.Run(name, func(b *testing.B) {
			s := benchStore(b, plain, c.id, c.frame)
			frames := bareFrames(b, s)
			var p, q [1 << 20]byte
			half := s.size / 2 &^ (MaxFrameSize - 1)
			one := &lane{name: "one", run: func() { readThrough(b, s, p[:], 0, s.size) }}
			bare := &lane{name: "codec", run: func() { decodeAll(b, frames, p[:], c.frame) }}
			two := &lane{name: "two", run: func() {
				inParallel(func() { readThrough(b, s, p[:], 0, half) }, func() { readThrough(b, s, q[:], half, s.size) })
			}}
			bareTwo := &lane{name: "codec twice", run: func() {
				inParallel(func() { decodeAll(b, frames[:len(frames)/2], p[:], c.frame) },
					func() { decodeAll(b, frames[len(frames)/2:], q[:], c.frame) })
			}}
			bareIO := &lane{name: "codec + bare I/O", run: func() { readBare(b, s, frames, p[:]) }}
			bareIOTwo := &lane{name: "codec + bare I/O twice", run: func() {
				inParallel(func() { readBare(b, s, frames[:len(frames)/2], p[:]) },
					func() { readBare(b, s, frames[len(frames)/2:], q[:]) })
			}}
			race(b, 1, one, bare, bareIO, two, bareTwo, bareIOTwo)
			size := float64(len(plain))
			faster("sequential ReadAt, "+name, one, size, bare, size, 0.85)
			faster("sequential ReadAt, "+name, one, size, bareIO, size, 0.95)
			faster("two goroutines, "+name, two, size, one, size, 1.8)
			faster("two goroutines, "+name, two, size, bareTwo, size, 0.85)
			faster("two goroutines, "+name, two, size, bareIOTwo, size, 0.95)
		})
	}
}

func inParallel(f ...func()) {
	var wg sync.WaitGroup
	for _, f := range f {
		wg.Go(f)
	}
	wg.Wait()
}

// BenchmarkRandom reads 4 KiB at random places without a cache, beside pread of
// the frame and decoding it.
func BenchmarkRandom(b *testing.B) {
	const reads = 2000
	plain := corpus(b)
	for _, frame := range []int{4 << 10, 16 << 10} {
		name := fmt.Sprintf("random ReadAt, lz4 %dK", frame>>10)
		b.Run(name, func(b *testing.B) {
			s := benchStore(b, plain, codec.LZ4, frame)
			r := rand.New(rand.NewPCG(1, 1))
			frames := bareFrames(b, s)
			var some []bareFrame
			for range reads {
				some = append(some, frames[r.IntN(len(frames))])
			}
			p := make([]byte, PageSize)
			ours := &lane{name: "ReadAt", run: func() {
				for _, f := range some {
					if _, err := s.ReadAt(p[:min(PageSize, f.plain())], f.number<<s.shift); err != nil {
						b.Fatal(err)
					}
				}
			}}
			raw, dst := make([]byte, frame), make([]byte, frame)
			bare := &lane{name: "pread + decode", run: func() {
				for _, f := range some {
					if _, err := s.f.ReadAt(raw[:f.entry.payload()], f.off()+frameHeadLen); err != nil {
						b.Fatal(err)
					}
					if _, err := decoders[f.kind()].Decode(dst[:f.plain()], raw[:f.entry.payload()]); err != nil {
						b.Fatal(err)
					}
				}
			}}
			race(b, 1, ours, bare)
			shorter(name, ours.median(), bare.median(), bare.name, reads, 1.3)
			atMost(name+", allocations", testing.AllocsPerRun(5, ours.run)/reads, 0, "%.2f")
		})
	}
}
