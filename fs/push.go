package fs

import "sync"

// maxPush bounds the files whose content goes to the kernel when they are opened, in
// bytes. A few frames cost less to decompress than the round trip of a READ.
const maxPush = 64 << 10

var pushBuffers = sync.Pool{New: func() any { return new([maxPush]byte) }}

// push gives the kernel the whole content of f, the small store of n, of which the
// kernel has no pages, before the open of it is answered. So who reads it next does
// not have to ask.
//
// On a writable mount it would race with writes. On a read-only one the store stays
// as it is while the caller has a reference to f.
func (m *mount) push(n *node, f *file) {
	size, ok := f.plainSize()
	if m.opt.Writable || !ok || size == 0 || size > maxPush {
		return
	}
	b := pushBuffers.Get().(*[maxPush]byte)
	defer pushBuffers.Put(b)
	// What can't be read, or isn't taken, is asked for by the read.
	if got, err := f.readAt(b[:size], 0); err == nil && int64(got) == size {
		m.conn.InodeNotifyStoreCache(n.id, 0, b[:size])
	}
}
