// Package fs mounts page stores as ordinary files.
//
// A mount shows one store as one file, or mirrors a folder in which every store
// NAME.lazy appears as NAME with its plain size and content; all else passes
// through unchanged (names.go has the rule). Names, modes, owners, times, extended
// attributes and links are those of the backing file system.
//
// The kernel knows files by node (node.go), a node is found again by descriptor of
// its folder and name, never by a joined path. A backing inode that is open has one
// file (file.go), shared by all its handles and hard links, so that there is never
// more than one store.Store on an inode. The kernel keeps what is written in its pages
// for a while (writeback.go). It becomes a commit when a handle is closed, and is synced
// by fsync or five seconds later.
//
// The serving process must not touch its own mount.
package fs

import (
	"fmt"
	"io"
	"log"
	"time"

	"lazyfs/codec"
	"lazyfs/store"
)

// Options adjust Mount. The zero value mounts read-only.
type Options struct {
	// Writable allows changes. The stores that are written to are locked
	// against writers outside the mount until they are closed and synced.
	Writable bool

	// AllowOther lets every user in, not only the one who mounts. Access is
	// always checked against the modes and owners of the files.
	AllowOther bool

	// Restrict holds any of "nosuid", "nodev" and "noexec", which do what they
	// do in mount(8). Without AllowOther, and for an ordinary user, a mount has
	// the first two anyway.
	Restrict []string

	// CacheBytes bounds the memory for decompressed frames, which all open
	// stores share. Zero means 64 MiB.
	CacheBytes int64

	// Codec, Level and FrameSize (in bytes, a power of two) are those of stores
	// created through the mount. Zero means the default of package store. A
	// store that exists keeps its own.
	Codec     codec.ID
	Level     int
	FrameSize int

	// SyncAfter is how long a write may wait for the disk when nobody asks for
	// it by fsync, counted from when the kernel hands it over: at the latest when
	// the file is closed. Zero means 5 seconds.
	SyncAfter time.Duration

	// Log takes one line for each thing that goes wrong without a caller to
	// tell in full: each damaged range once, locked stores, syncs in the
	// background. Nil means nowhere.
	Log *log.Logger
}

func (o *Options) setDefaults() {
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.SyncAfter == 0 {
		o.SyncAfter = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = log.New(io.Discard, "", 0)
	}
}

func (o *Options) check() error {
	for _, r := range o.Restrict {
		if restrictions[r] == 0 {
			return fmt.Errorf("restriction is %q, want nosuid, nodev or noexec", r)
		}
	}
	return store.CreateOptions{Codec: o.Codec, Level: o.Level, FrameSize: o.FrameSize}.Check()
}
