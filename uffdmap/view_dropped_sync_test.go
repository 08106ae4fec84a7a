package uffdmap

import (
	"bytes"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// What a Sync has stored does not come back older: pages that were dropped beside it and
// read again are as in the store when it is done.
func TestDroppedIsAsSynced(t *testing.T) {
	const frame, size = 64 << 10, 8 << 20
	path := newStore(t, make([]byte, size), frame)
	for _, o := range []Options{{Writable: true}, {Writable: true, MemoryLimit: size}} {
		v := openView(t, path, o)
		s, err := v.Edit(0, size)
		must(t, "edit", err)
		rnd := newRand(t)
		for round := range 20 {
			for at := 0; at < size; at += pageSize {
				_, err := v.WriteAt([]byte{byte(round), byte(at / pageSize)}, int64(at))
				must(t, "write", err)
			}
			pages := rnd.Perm(size / pageSize)[:500]
			var dropping sync.WaitGroup
			dropping.Go(func() {
				for _, p := range pages {
					if err := unix.Madvise(s.Bytes()[p*pageSize:(p+1)*pageSize], unix.MADV_DONTNEED); err != nil {
						t.Errorf("drop a page: %v", err)
					}
					if _, err := v.ReadAt(make([]byte, 1), int64(p*pageSize)); err != nil {
						t.Errorf("read it: %v", err)
					}
				}
			})
			must(t, "sync", v.Sync())
			dropping.Wait()
			got := make([]byte, size)
			_, err := v.ReadAt(got, 0)
			must(t, "read", err)
			if !bytes.Equal(got, stored(t, path)) {
				t.Fatalf("%+v, round %d: memory differs from the store", o, round)
			}
		}
		s.Release()
		must(t, "close", v.Close())
	}
}
