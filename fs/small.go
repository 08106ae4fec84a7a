package fs

import (
	"sync"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// maxSmall bounds the backing files that are read whole when they are opened, in bytes.
// To read one costs less than to open it as a store that others may change, pin its
// generation and read it piece by piece.
const maxSmall = 32 << 10

// A smallFile holds the content of a backing file.
type smallFile [maxSmall]byte

var smallFiles = sync.Pool{New: func() any { return new(smallFile) }}

// openSmall opens the store of f, whose backing file has size bytes, in memory. It
// returns nil where it is not small, or the mount may write to it, or something is wrong,
// be it that a writer is at work. It is called with mu held.
func (f *file) openSmall(size int64) *store.Store {
	if !f.readable || size > maxSmall {
		return nil
	}
	b := smallFiles.Get().(*smallFile)
	if n, err := unix.Pread(f.path, b[:size], 0); err == nil && int64(n) == size {
		if s, err := store.OpenBytes(b[:n], store.Options{Cache: f.m.cache}); err == nil {
			f.small = b
			return s
		}
	}
	smallFiles.Put(b)
	return nil
}

// freeSmall gives back the memory of a closed store. It is called with mu held.
func (f *file) freeSmall() {
	if f.small != nil {
		smallFiles.Put(f.small)
		f.small = nil
	}
}
