package uffdmap

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Options adjust Open and Map. The zero value maps a store read-only.
type Options struct {
	// Writable takes the store's lock and lets writes reach it by Sync.
	Writable bool

	// Private lets memory be written, and never writes to the store, which is
	// opened read-only: Sync does nothing, Close forgets. Writable is ignored.
	Private bool

	// MemoryLimit bounds the memory of frames, in bytes; when it is reached some
	// make room for others. Zero means no bound, less is refused. Open writes
	// evicted dirty frames to the store, uncommitted; Map puts them into a file
	// without a name, and keeps 16 frames however small the limit is. Where there
	// is no room for them a mapping exceeds the limit until Sync succeeds.
	MemoryLimit int64

	// NoTracking leaves it unknown which pages of a Private mapping are written,
	// which saves the cost of the first write to each. Dirty lists all of every
	// Edit then; Dirty and Written of a served mapping list only the frames that
	// a write brought in. It needs Private, and no MemoryLimit.
	NoTracking bool

	// Pages is the pattern of the names of page files, such as "tmp%d.gz", when
	// path is a folder of them; such a folder can't be Writable, only Private.
	// Empty means that path is a store.
	Pages string
}

// writesBack says that what is written reaches the store.
func (o *Options) writesBack() bool { return o.Writable && !o.Private }

// editable says that memory may be written.
func (o *Options) editable() bool { return o.Writable || o.Private }

// check refuses what makes no sense, and NoTracking where a written page that
// nobody knows of would be lost.
func (o *Options) check() error {
	switch {
	case o.Pages != "" && o.writesBack():
		return fmt.Errorf("a folder of page files can't be written: %w", ErrReadOnly)
	case o.MemoryLimit < 0:
		return fmt.Errorf("memory limit is %d bytes: %w", o.MemoryLimit, unix.EINVAL)
	case o.NoTracking && (!o.Private || o.MemoryLimit > 0):
		return fmt.Errorf("NoTracking needs Private and no MemoryLimit: %w", unix.EINVAL)
	}
	return nil
}
