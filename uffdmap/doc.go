// Package uffdmap maps page stores into memory. A frame is decompressed when
// somebody asks for it or touches it, and not before.
//
// A View mapping (Open) is filled before it is handed out. View and Edit bring
// the pages of a range into memory in the calling goroutine and return them as
// a slice, which stays in memory until it is released. No other process is
// needed, no page fault ever happens, and with a MemoryLimit frames that nobody
// holds make room for others. It is the choice for slow stores.
//
// A served mapping (Map) is one slice that any code may touch at any time. Its
// faults are answered by a helper process, which the package starts; see Main.
// A Snapshot of it holds one instant while the program goes on writing.
//
// Why the fault of a Go program is never answered by a goroutine of the same
// program: a goroutine that waits for a page keeps its P, so the garbage
// collector, which stops the world, waits for it, and the goroutine that would
// bring the page waits for the garbage collector.
//
// Errors can be told apart with errors.Is; see ErrDamaged and its neighbours.
// Everything here needs Linux. View mappings work from 6.1 on, and are exact to
// the page about what was written from 6.7 on; served mappings need 6.6.
package uffdmap
