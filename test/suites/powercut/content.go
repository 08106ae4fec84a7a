package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// length is that of version v of what is written whole, in bytes.
func length(v int) int { return 1 + v*7919%70000 }

// content is n bytes that tell of version v, and compress.
func content(v, n int) []byte {
	b := make([]byte, n+16)
	for i := 0; i < n; i += 16 {
		binary.LittleEndian.PutUint64(b[i:], uint64(v))
		binary.LittleEndian.PutUint64(b[i+8:], uint64(v*n+i)*0x9e3779b97f4a7c15>>48)
	}
	return b[:n]
}

// whole is version v.
func whole(v int) []byte { return content(v, length(v)) }

// isWhole says whether b is one of the versions from lo to hi.
func isWhole(b []byte, lo, hi int) error {
	for v := max(lo, 0); v <= hi; v++ {
		if bytes.Equal(b, whole(v)) {
			return nil
		}
	}
	return fmt.Errorf("%d bytes are of none", len(b))
}

// readsWhole reads a file and says whether it is one of the versions from lo to hi. It may
// be missing where lo is below 0.
func readsWhole(f found, name string, lo, hi int) error {
	b, err := f.read(name)
	if lo < 0 && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := isWhole(b, lo, hi); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// writeWhole makes version v in a file.
func writeWhole(v int, sync bool, path ...string) error {
	f, err := os.OpenFile(filepath.Join(path...), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(whole(v))
	if sync && err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// withFile calls do with an open file.
func withFile(path string, flags int, do func(f *os.File) error) error {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

// syncPath is fsync of a file or folder.
func syncPath(path ...string) error {
	return withFile(filepath.Join(path...), os.O_RDONLY, (*os.File).Sync)
}
