package uffdmap

import (
	"iter"
	"slices"
	"testing"

	"lazyfs/store"
)

// The kernel tracks writes in a View mapping, and the pager those in a served one.
// Of the same writes, to resident and absent pages, among syncs and evictions, both
// name the same dirty frames, and both stores hold the same bytes.
func TestTrackingsAgree(t *testing.T) {
	const size, frame = 4 << 20, 16 << 10
	for _, limit := range []int64{0, 1 << 20} {
		rnd := newRand(t)
		data := content(size, 80)
		viewed, mapped := pack(t, data, store.CreateOptions{}), pack(t, data, store.CreateOptions{})
		v, err := Open(viewed, Options{Writable: true, MemoryLimit: limit})
		must(t, "open", err)
		m := mustMap(t, mapped, Options{Writable: true, MemoryLimit: limit})
		for round := range 6 {
			for range rnd.IntN(300) {
				off := rnd.IntN(size)
				n := min(1+rnd.IntN(3*pageSize), size-off)
				for i := range n {
					data[off+i]++
				}
				s, err := v.Edit(int64(off), int64(n))
				must(t, "edit", err)
				copy(s.Bytes(), data[off:])
				s.Release()
				copy(m.Bytes()[off:], data[off:off+n])
			}
			got, want := framesIn(m.Dirty(), frame), framesIn(v.Dirty(), frame)
			if !slices.Equal(got, want) {
				t.Fatalf("limit %d, round %d: the pager names %d, the kernel %d", limit, round, got, want)
			}
			if round%2 == 0 {
				must(t, "sync", v.Sync())
				must(t, "sync", m.Sync())
			}
		}
		must(t, "close", v.Close())
		must(t, "close", m.Close())
		same(t, "store of the view", unpack(t, viewed), data)
		same(t, "store of the mapping", unpack(t, mapped), data)
	}
}

// framesIn are the frames that the ranges touch, each once.
func framesIn(ranges iter.Seq[Range], frame int64) []int64 {
	var frames []int64
	for r := range ranges {
		for n := r.Off / frame; n*frame < r.End(); n++ {
			frames = append(frames, n)
		}
	}
	return slices.Compact(frames)
}
