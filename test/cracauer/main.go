// Command cracauer maps a folder of compressed page files into memory and tracks
// the writes to it, as a garbage collector does.
//
// It writes a few page files, tmp0.gz and so on, into a temporary folder, reads
// two pages of the mapping, which brings them in from their files, writes to one
// page, protects the whole mapping, lets a second thread write to a protected
// page, and prints which pages were brought in and which were written while
// protected.
package main

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"lazyfs/uffdmap"
)

const (
	pages   = 16
	pageLen = 4096
	magic   = 0xDEADBEEFDEADBEEF
)

func main() {
	uffdmap.Main()
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "cracauer: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	folder, err := os.MkdirTemp("", "cracauer")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	for n := range pages {
		if err := writePage(filepath.Join(folder, fmt.Sprintf("tmp%d.gz", n))); err != nil {
			return err
		}
	}
	m, err := uffdmap.Map(folder, uffdmap.Options{Private: true, Pages: "tmp%d.gz"})
	if err != nil {
		return err
	}
	return errors.Join(use(m), m.Close())
}

// writePage writes one page, all of whose words are the magic number.
func writePage(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	var page [pageLen]byte
	for i := 0; i < pageLen; i += 8 {
		binary.NativeEndian.PutUint64(page[i:], magic)
	}
	_, err = z.Write(page[:])
	return errors.Join(err, z.Close(), f.Close())
}

func use(m *uffdmap.Mapping) error {
	mem := m.Bytes()
	word := func(page int) uint64 { return binary.NativeEndian.Uint64(mem[page*pageLen:]) }
	set := func(page int, v uint64) { binary.NativeEndian.PutUint64(mem[page*pageLen:], v) }

	fmt.Printf("page 0 holds 0x%X\n", word(0))
	fmt.Printf("page 8 holds 0x%X\n", word(8))
	set(4, 0x42) // not protected: the write is let through unseen
	if err := m.Protect(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // a thread of its own, that ends with it
		set(0, 0x43)           // protected: noted, then let through
		close(done)
	}()
	<-done

	var in, written []int64
	for r := range m.Resident() {
		in = append(in, pagesOf(r)...)
	}
	for r := range m.Written() {
		written = append(written, pagesOf(r)...)
	}
	fmt.Printf("brought in: pages %d\n", in)
	fmt.Printf("written while protected: pages %d\n", written)
	fmt.Printf("the words are 0x%X 0x%X 0x%X\n", word(0), word(4), word(8))
	if word(0) != 0x43 || word(4) != 0x42 || word(8) != magic {
		return errors.New("the words are not what was read and written")
	}
	return nil
}

func pagesOf(r uffdmap.Range) []int64 {
	var list []int64
	for p := r.Off / pageLen; p < r.End()/pageLen; p++ {
		list = append(list, p)
	}
	return list
}
