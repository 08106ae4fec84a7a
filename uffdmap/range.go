package uffdmap

import "math"

// A Range is Len bytes from Off on.
type Range struct{ Off, Len int64 }

// End is the offset behind the last byte of r, or the largest there is.
func (r Range) End() int64 {
	if r.Len > 0 && r.Off > math.MaxInt64-r.Len {
		return math.MaxInt64
	}
	return r.Off + r.Len
}
