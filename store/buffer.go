package store

import "sync"

// A buffer is memory for one frame, plain or stored.
type buffer struct{ b []byte }

// buffers are spare buffers for reuse. The zero value is ready.
type buffers struct{ pool sync.Pool }

// get returns a buffer of at least n bytes; what is in it is left from before.
func (p *buffers) get(n int) *buffer {
	b, ok := p.pool.Get().(*buffer)
	if !ok {
		b = new(buffer)
	}
	if len(b.b) < n {
		b.b = make([]byte, n)
	}
	return b
}

func (p *buffers) put(b *buffer) { p.pool.Put(b) }
