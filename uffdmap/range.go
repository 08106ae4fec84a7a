package uffdmap

// A Range is Len bytes from Off on.
type Range struct{ Off, Len int64 }

// End is the offset behind the last byte of r.
func (r Range) End() int64 { return r.Off + r.Len }
