package uffdmap_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"

	"lazyfs/uffdmap"
)

const (
	pageLen = 4096
	magic   = 0xDEADBEEFDEADBEEF
)

// writePage writes page n of the folder as a gzip file. Each of its words holds
// the magic number.
func writePage(folder string, n int) error {
	var file bytes.Buffer
	z := gzip.NewWriter(&file)
	for range pageLen / 8 {
		if err := binary.Write(z, binary.NativeEndian, uint64(magic)); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, fmt.Sprintf("tmp%d.gz", n)), file.Bytes(), 0o600)
}

// Cracauer's program: memory whose pages come from compressed files on first
// touch, with its writes tracked as a garbage collector would.
func Example() {
	folder, err := os.MkdirTemp("", "pages")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	for n := range 8 {
		if err := writePage(folder, n); err != nil {
			log.Fatal(err)
		}
	}
	m, err := uffdmap.Map(folder, uffdmap.Options{Private: true, Pages: "tmp%d.gz"})
	if err != nil {
		log.Fatal(err)
	}
	mem := m.Bytes()
	word := func(page int) uint64 { return binary.NativeEndian.Uint64(mem[page*pageLen:]) }

	// The first touch of a page brings it in from its file.
	fmt.Printf("page 0 begins with 0x%X\n", word(0))
	fmt.Printf("page 6 begins with 0x%X\n", word(6))

	// A write that nobody asked to know of.
	binary.NativeEndian.PutUint64(mem[3*pageLen:], 0x42)

	// From here on every write is noted. The writer only waits for that.
	if err := m.Protect(); err != nil {
		log.Fatal(err)
	}
	var mutator sync.WaitGroup
	mutator.Go(func() { binary.NativeEndian.PutUint64(mem, 0x43) })
	mutator.Wait()

	for r := range m.Resident() {
		fmt.Printf("brought in: page %d\n", r.Off/pageLen)
	}
	for r := range m.Written() {
		fmt.Printf("written while protected: page %d\n", r.Off/pageLen)
	}
	fmt.Printf("the words are 0x%X 0x%X 0x%X\n", word(0), word(3), word(6))
	if err := m.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// page 0 begins with 0xDEADBEEFDEADBEEF
	// page 6 begins with 0xDEADBEEFDEADBEEF
	// brought in: page 0
	// brought in: page 3
	// brought in: page 6
	// written while protected: page 0
	// the words are 0x43 0x42 0xDEADBEEFDEADBEEF
}
