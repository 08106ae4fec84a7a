package uffdmap

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// After a Sync nothing is dirty, also when somebody looked while frames were evicted.
func TestDirtyBesideEviction(t *testing.T) {
	const frame, frames = 4 << 10, 8
	want := plainBytes(newRand(t), frames*frame)
	v := openView(t, newStore(t, want, frame), Options{Writable: true, MemoryLimit: 2 * frame})
	for round := range 100 {
		var done atomic.Bool
		var looking sync.WaitGroup
		for range 2 {
			looking.Go(func() {
				for !done.Load() {
					v.Stats()
				}
			})
		}
		for n := range int64(10 * frames) {
			_, err := v.WriteAt(want[:1], n%frames*frame)
			must(t, "write", err)
		}
		done.Store(true)
		looking.Wait()
		must(t, "sync", v.Sync())
		if dirty := slices.Collect(v.Dirty()); len(dirty) > 0 {
			t.Fatalf("round %d: %v is dirty", round, dirty)
		}
	}
}
