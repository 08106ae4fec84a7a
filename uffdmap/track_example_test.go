package uffdmap_test

import (
	"encoding/binary"
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"lazyfs/uffdmap"
)

// A heap of a generational collector: words that refer to other words by their
// numbers. The old generation comes first, and what is new behind it.
type heap struct {
	mem  []byte
	old  int // words of the old generation
	used int // words
}

func (h *heap) get(n int) int        { return int(binary.NativeEndian.Uint64(h.mem[8*n:])) }
func (h *heap) set(n, reference int) { binary.NativeEndian.PutUint64(h.mem[8*n:], uint64(reference)) }

// allocate makes a new word, which refers to nothing.
func (h *heap) allocate() int {
	h.used++
	return h.used - 1
}

// survivors are the new words that old ones refer to. It looks at those parts of
// the old generation alone that were written since the last collection.
func (h *heap) survivors(t *uffdmap.Tracker) (found []int, looked int) {
	for r := range t.Written() {
		for n := int(r.Off / 8); n < min(int(r.End()/8), h.old); n++ {
			looked++
			if to := h.get(n); to >= h.old {
				found = append(found, to)
			}
		}
	}
	return found, looked
}

// A collector of garbage finds the few old objects that refer to new ones without
// looking at all of the old generation, and without a barrier in the program.
func ExampleTrack() {
	mem, err := unix.Mmap(-1, 0, 64<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		log.Fatal(err)
	}
	defer unix.Munmap(mem)
	h := heap{mem: mem, old: 4 << 20, used: 4 << 20}

	t, err := uffdmap.Track(mem[:8*h.old])
	if err != nil {
		log.Fatal(err)
	}
	if err := t.Protect(); err != nil {
		log.Fatal(err)
	}
	for i := range 3 {
		h.allocate() // garbage
		h.set(1_000_000*(i+1), h.allocate())
	}
	for collection := range 2 {
		found, looked := h.survivors(t)
		fmt.Printf("collection %d: %d survivors, looked at %d of %d old words\n", collection+1, len(found), looked, h.old)
		for _, n := range found {
			fmt.Printf("new word %d survives\n", n-h.old)
		}
		h.set(7, h.allocate()) // for the next collection
	}
	if err := t.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// collection 1: 3 survivors, looked at 1536 of 4194304 old words
	// new word 1 survives
	// new word 3 survives
	// new word 5 survives
	// collection 2: 1 survivors, looked at 512 of 4194304 old words
	// new word 6 survives
}
