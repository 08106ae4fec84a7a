package uffdmap

// Options adjust Open and Map. The zero value maps a store read-only.
type Options struct {
	// Writable takes the store's lock and lets writes reach it by Sync.
	Writable bool

	// Private lets memory be written, and never writes to the store, which is
	// opened read-only: Sync does nothing, Close forgets. Writable is ignored.
	Private bool

	// MemoryLimit bounds the memory of frames, in bytes; frames that were not
	// used for long make room for others. Zero means no bound. A store without
	// room for evicted frames may make a mapping exceed it until Sync succeeds.
	MemoryLimit int64

	// Pages is the pattern of the names of page files, such as "tmp%d.gz", when
	// path is a folder of them; such a folder can't be Writable, only Private.
	// Empty means that path is a store.
	Pages string
}
