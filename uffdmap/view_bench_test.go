package uffdmap

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

const (
	benchFrame = 16 << 10
	benchSize  = 256 << 20
)

// benchStore makes a store of lines of text, which lz4 halves.
func benchStore(b *testing.B) string {
	rnd := rand.New(rand.NewPCG(1, 1))
	plain := make([]byte, 0, benchSize+100)
	for len(plain) < benchSize {
		plain = fmt.Appendf(plain, "%016x some words that come again and again %d\n", rnd.Uint64(), rnd.IntN(1000))
	}
	return newStore(b, plain[:benchSize], benchFrame)
}

// BenchmarkFirstTouch is the time until one random absent frame can be read.
func BenchmarkFirstTouch(b *testing.B) {
	path := benchStore(b)
	const frames = benchSize / benchFrame
	b.Run("View", func(b *testing.B) {
		benchTouch(b, path, Options{})
	})
	b.Run("View writable", func(b *testing.B) {
		benchTouch(b, path, Options{Writable: true})
	})
	b.Run("View evicting", func(b *testing.B) {
		benchTouch(b, path, Options{MemoryLimit: 16 << 20})
	})
	// What a View needs at least: read and decode the frame, copy it into place.
	b.Run("read+decode+copy", func(b *testing.B) {
		s, err := store.Open(path, store.Options{})
		must(b, "open", err)
		defer s.Close()
		mem, err := mapMemory(benchSize, unix.PROT_READ)
		must(b, "map", err)
		defer mem.unmap()
		buf, err := mapMemory(benchFrame, unix.PROT_READ|unix.PROT_WRITE)
		must(b, "map", err)
		defer buf.unmap()
		u, err := uffd.Open(uffd.FeatureSIGBUS, 0)
		must(b, "open", err)
		defer u.Close()
		err = u.Register(mem.addr, benchSize, uffd.ModeMissing)
		must(b, "register", err)
		order := rand.Perm(frames)
		i := 0
		for b.Loop() {
			if i == frames {
				b.StopTimer()
				must(b, "madvise", unix.Madvise(mem.b, unix.MADV_DONTNEED))
				i = 0
				b.StartTimer()
			}
			n := order[i]
			i++
			_, err := s.ReadFrame(int64(n), buf.b)
			must(b, "read", err)
			_, err = u.Copy(mem.addr+uintptr(n*benchFrame), buf.addr, benchFrame, uffd.CopyDontWake)
			must(b, "copy", err)
		}
	})
}

func benchTouch(b *testing.B, path string, o Options) {
	const frames = benchSize / benchFrame
	v := openView(b, path, o)
	order := rand.Perm(frames)
	i := 0
	for b.Loop() {
		if i == frames {
			b.StopTimer()
			must(b, "close", v.Close())
			v = openView(b, path, o)
			i = 0
			b.StartTimer()
		}
		s, err := v.View(int64(order[i])*benchFrame, 1)
		i++
		must(b, "view", err)
		s.Release()
	}
}

// BenchmarkResident is the time of a View of what is in memory.
func BenchmarkResident(b *testing.B) {
	v := openView(b, benchStore(b), Options{})
	for b.Loop() {
		s, err := v.View(5*benchFrame, 100)
		must(b, "view", err)
		s.Release()
	}
}

// BenchmarkSequential reads a whole store once, by pieces of 64 KiB, or by one
// Prefetch; BenchmarkSync writes all of its frames back.
func BenchmarkSequential(b *testing.B) {
	path := benchStore(b)
	for name, read := range map[string]func(v *Viewer) error{
		"View": func(v *Viewer) error {
			for off := int64(0); off < v.Size(); off += 64 << 10 {
				s, err := v.View(off, 64<<10)
				if err != nil {
					return err
				}
				s.Release()
			}
			return nil
		},
		"Prefetch": func(v *Viewer) error { return v.Prefetch() },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(benchSize)
			for b.Loop() {
				v := openView(b, path, Options{})
				must(b, "read", read(v))
				b.StopTimer()
				must(b, "close", v.Close())
				b.StartTimer()
			}
		})
	}
}

func BenchmarkSync(b *testing.B) {
	v := openView(b, benchStore(b), Options{Writable: true})
	s, err := v.Edit(0, v.Size())
	must(b, "edit", err)
	defer s.Release()
	b.SetBytes(benchSize)
	for b.Loop() {
		b.StopTimer()
		for at := 0; at < benchSize; at += benchFrame {
			s.Bytes()[at]++
		}
		b.StartTimer()
		must(b, "sync", v.Sync())
	}
}
