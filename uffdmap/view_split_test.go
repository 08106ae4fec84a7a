package uffdmap

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// A program may give the memory of a Span properties of its own: the mapping is in
// several pieces for the kernel then, and for nobody else.
func TestViewSplit(t *testing.T) {
	const frame, frames = 16 << 10, 64
	want := plainBytes(newRand(t), frames*frame)
	clear(want[8*frame : 16*frame]) // They come in by another call.
	for name, split := range map[string]func(p []byte) error{
		"MADV_SEQUENTIAL": func(p []byte) error { return unix.Madvise(p, unix.MADV_SEQUENTIAL) },
		"MADV_DONTDUMP":   func(p []byte) error { return unix.Madvise(p, unix.MADV_DONTDUMP) },
		"mlock":           unix.Mlock,
	} {
		for _, writable := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, writable %t", name, writable), func(t *testing.T) {
				v := openView(t, newStore(t, want, frame), Options{Writable: writable, MemoryLimit: 16 * frame})
				for n := int64(0); n < frames; n += 3 {
					s, err := v.View(n*frame, frame)
					must(t, "view", err)
					must(t, name, split(s.Bytes()[store.PageSize:2*store.PageSize]))
					s.Release()
				}
				got := make([]byte, len(want))
				for range 3 {
					_, err := v.ReadAt(got, 0)
					must(t, "read", err)
					same(t, "read", got, want)
				}
			})
		}
	}
}
