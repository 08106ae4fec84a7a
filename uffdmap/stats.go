package uffdmap

// Stats are the figures of a mapping since it was opened, and its state now.
// Those that only a served mapping has are 0 for a View mapping.
type Stats struct {
	Faults      int64 // touches of, or calls for, absent pages
	Writes      int64 // faults of writes to protected frames; served mappings only
	Frames      int64 // frames brought into memory, zeros included
	ZeroFrames  int64 // those that were zeros, without decompression
	Ahead       int64 // those that nobody had asked for yet
	Damaged     int64 // frames that could not be read
	Evicted     int64 // frames dropped from memory
	WrittenBack int64 // frames compressed into the store
	Takeovers   int64 // pagers that ended and were replaced; served mappings only

	Resident int64 // bytes in memory
	Dirty    int64 // bytes written since the last Sync: whole pages, whole frames for a served mapping
}
