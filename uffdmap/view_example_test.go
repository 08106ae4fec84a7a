package uffdmap_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"lazyfs/store"
	"lazyfs/uffdmap"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "lazyfs-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "words.lazy")
	s, err := store.Create(path, store.CreateOptions{})
	if err != nil {
		log.Fatal(err)
	}
	s.WriteAt([]byte("all of it compressed"), 1<<20)
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}

	v, err := uffdmap.Open(path, uffdmap.Options{Writable: true})
	if err != nil {
		log.Fatal(err)
	}
	span, err := v.Edit(1<<20, 20) // Decompresses one frame.
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", span.Bytes())
	copy(span.Bytes(), "ALL")
	span.Release()
	for r := range v.Dirty() {
		fmt.Printf("%d bytes at %#x are written\n", r.Len, r.Off)
	}
	if err := v.Close(); err != nil { // Syncs, too.
		log.Fatal(err)
	}
	// Output:
	// all of it compressed
	// 20 bytes at 0x100000 are written
}
