package uffdmap

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// A Sync holds what was written before it began also where that is just being evicted,
// and Dirty lists it all the time.
func TestSyncBesideEviction(t *testing.T) {
	const frame = 16 << 10
	for name, mask := range map[string]string{"tracked": "", "untracked": "wp_async"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LAZYFS_MASK_UFFD", mask)
			want := plainBytes(newRand(t), 2*frame)
			path := newStore(t, want, frame)
			v := openView(t, path, Options{Writable: true, MemoryLimit: frame})
			copy(want[:frame], bytes.Repeat([]byte("new"), frame))
			_, err := v.WriteAt(want[:frame], 0)
			must(t, "write", err)
			// An eviction reads the page that the program drops from the store, and waits there.
			last := v.mem.b[frame-store.PageSize : frame]
			must(t, "drop a page", unix.Madvise(last, unix.MADV_DONTNEED))
			copy(want[frame-store.PageSize:frame], stored(t, path)[frame-store.PageSize:])
			gated := gatedSource{v.src, make(chan int64, 10), make(chan struct{})}
			v.src = gated

			read, synced := make(chan error, 1), make(chan error, 1)
			go func() { _, err := v.ReadAt(make([]byte, 1), frame); read <- err }()
			<-gated.asked
			if d := v.Stats().Dirty; d == 0 {
				t.Error("nothing is dirty while the frame is evicted")
			}
			go func() { synced <- v.Sync() }()
			eventually(t, "the sync waits for the frame, or has ended", func() bool {
				return v.frames[0].Load()&frameAwaited != 0 || len(synced) > 0
			})
			close(gated.gate)
			must(t, "sync", <-synced)
			same(t, "stored by the sync", stored(t, path), want)
			must(t, "read", <-read)
		})
	}
}
