package uffdmap

import (
	"math/rand/v2"
	"testing"
)

// benchMap maps the store at path again whenever next has gone through all of its
// frames, so that each call of touch meets an absent frame, or with whole a
// mapping that is wholly resident.
func benchMap(b *testing.B, path string, o Options, whole bool, touch func(mem []byte, frame int)) {
	const frames = benchSize / benchFrame
	open := func() *Mapping {
		m := mustMap(b, path, o)
		if whole {
			must(b, "prefetch", m.Prefetch(Range{0, m.Size()}))
		}
		return m
	}
	m := open()
	order := rand.Perm(frames)
	i := 0
	for b.Loop() {
		if i == frames {
			b.StopTimer()
			must(b, "close", m.Close())
			m = open()
			i = 0
			b.StartTimer()
		}
		touch(m.Bytes(), order[i])
		i++
	}
	b.StopTimer()
	must(b, "close", m.Close())
}

var benchSum byte

// BenchmarkMapTouch is the time of one random touch of an absent frame, read and
// written, and of the first write to a resident one, in a served mapping.
func BenchmarkMapTouch(b *testing.B) {
	path := benchStore(b)
	read := func(mem []byte, n int) { benchSum += mem[n*benchFrame+5000] }
	write := func(mem []byte, n int) { mem[n*benchFrame+5000] = 1 }
	b.Run("read", func(b *testing.B) { benchMap(b, path, Options{}, false, read) })
	b.Run("read tracked", func(b *testing.B) { benchMap(b, path, Options{Private: true}, false, read) })
	b.Run("read evicting", func(b *testing.B) { benchMap(b, path, Options{MemoryLimit: 16 << 20}, false, read) })
	b.Run("write", func(b *testing.B) { benchMap(b, path, Options{Private: true}, false, write) })
	b.Run("first write", func(b *testing.B) { benchMap(b, path, Options{Private: true}, true, write) })
}

// BenchmarkMapSequential reads a whole store once, through the bytes and by one
// Prefetch.
func BenchmarkMapSequential(b *testing.B) {
	path := benchStore(b)
	into := make([]byte, 64<<10)
	bench := func(name string, read func(m *Mapping)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(benchSize)
			for b.Loop() {
				b.StopTimer()
				m := mustMap(b, path, Options{})
				b.StartTimer()
				read(m)
				b.StopTimer()
				must(b, "close", m.Close())
				b.StartTimer()
			}
		})
	}
	bench("Bytes", func(m *Mapping) {
		for off := 0; off < benchSize; off += len(into) {
			copy(into, m.Bytes()[off:])
		}
	})
	bench("Prefetch", func(m *Mapping) { must(b, "prefetch", m.Prefetch(Range{0, m.Size()})) })
}

// BenchmarkMapSync writes back one random frame in a hundred, and all.
func BenchmarkMapSync(b *testing.B) {
	for _, c := range []struct {
		name string
		each int
	}{{"1%", 100}, {"all", 1}} {
		b.Run(c.name, func(b *testing.B) {
			m := mustMap(b, benchStore(b), Options{Writable: true})
			must(b, "prefetch", m.Prefetch(Range{0, m.Size()}))
			order := rand.Perm(benchSize / benchFrame)[:benchSize/benchFrame/c.each]
			b.SetBytes(int64(len(order) * benchFrame))
			for b.Loop() {
				b.StopTimer()
				for _, n := range order {
					m.Bytes()[n*benchFrame+100]++
				}
				b.StartTimer()
				must(b, "sync", m.Sync())
			}
			b.StopTimer()
			must(b, "close", m.Close())
		})
	}
}
