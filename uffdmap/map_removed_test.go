package uffdmap

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// Pages that a program punches out of its mapping while it is synced or shown by a
// snapshot are as at the last Sync, or as they were: nobody ever takes them for zeros.
func TestMapRemovesBesideSync(t *testing.T) {
	const frame, size = 1 << 20, 8 << 20
	path := pack(t, bytes.Repeat([]byte{1}, size), store.CreateOptions{FrameSize: frame})
	m := mustMap(t, path, Options{Writable: true})
	noZeros := func(what string, b []byte) {
		t.Helper()
		if at := bytes.IndexByte(b, 0); at >= 0 {
			t.Fatalf("byte %#x of the %s is 0, and never was", at, what)
		}
	}
	seed := newRand(t).Uint64()
	for round := range 20 {
		for at := range size {
			m.Bytes()[at] = byte(2 + round)
		}
		var removing sync.WaitGroup
		removing.Go(func() {
			for _, p := range rand.New(rand.NewPCG(seed, uint64(round))).Perm(size / pageSize) {
				if err := unix.Madvise(m.mem[p*pageSize:(p+1)*pageSize], unix.MADV_REMOVE); err != nil {
					t.Errorf("punch out a page: %v", err)
				}
			}
		})
		if round%2 == 0 {
			must(t, "sync", m.Sync())
		} else {
			noZeros("snapshot", readSnapshot(t, m, func() {}))
		}
		removing.Wait()
		noZeros("mapping", m.Bytes())
	}
}
