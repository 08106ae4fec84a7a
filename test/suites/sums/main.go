// Sums prints a checksum of each regular file below a folder, in the order of their
// names: go run ./test/suites/sums FOLDER
//
// It reads the parts that hold data alone, so that the large files with few bytes
// in them that a suite leaves behind take no time. Zeros count for nothing, be they
// data or a hole: equal sums are equal contents.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const pageSize = 4096

var zeros [pageSize]byte

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sums FOLDER")
		os.Exit(2)
	}
	if err := sums(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "sums:", err)
		os.Exit(1)
	}
}

func sums(folder string) error {
	return filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		sum, err := fileSum(path)
		if err != nil {
			return err
		}
		_, err = fmt.Printf("%x  %s\n", sum, name)
		return err
	})
}

// fileSum is a checksum of the size of a file and of its pages that are not zero,
// with their places.
func fileSum(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, unix.SEEK_END)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	binary.Write(h, binary.LittleEndian, size)
	b := make([]byte, 64*pageSize)
	for at := int64(0); ; {
		if at, err = f.Seek(at, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
			return h.Sum(nil), nil
		} else if err != nil {
			return nil, err
		}
		at &^= pageSize - 1
		part := b[:min(int64(len(b)), size-at)]
		if _, err := f.ReadAt(part, at); err != nil {
			return nil, err
		}
		for page := range part[:(len(part)+pageSize-1)/pageSize] {
			p := part[page*pageSize : min(len(part), (page+1)*pageSize)]
			if !bytes.Equal(p, zeros[:len(p)]) {
				binary.Write(h, binary.LittleEndian, at+int64(page*pageSize))
				h.Write(p)
			}
		}
		at += int64(len(part))
	}
}
