package uffdmap

import (
	"fmt"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// install puts n frames from buf into their places from first on. Those with a
// bit in zeros are zero, whatever buf holds. On an error all stay absent.
func (v *Viewer) install(first, n int64, buf memory, zeros uint64) error {
	if v.tracked() {
		// Only a copy can install and protect in one step.
		for i := range n {
			if zeros>>i&1 != 0 {
				clear(buf.b[i<<v.frameShift : (i+1)<<v.frameShift])
			}
		}
		zeros = 0
	}
	for i := int64(0); i < n; {
		zero, end := zeros>>i&1, i+1
		for end < n && zeros>>end&1 == zero {
			end++
		}
		src := buf.addr + uintptr(i<<v.frameShift)
		if err := v.place(v.bytesOf(first+i, end-i), src, zero == 1); err != nil {
			v.drop(first, n)
			return err
		}
		i = end
	}
	return nil
}

// place installs the pages of dst, which are absent, from src or as zeros, and
// protected if writes are tracked.
func (v *Viewer) place(dst []byte, src uintptr, zero bool) error {
	flags := uffd.CopyDontWake // Nobody ever waits for a page.
	if v.tracked() {
		flags |= uffd.CopyWP
	}
	most := len(dst)
	for done := 0; done < len(dst); {
		addr, some := address(dst)+uintptr(done), min(len(dst)-done, most)
		var n int
		var err error
		if zero {
			n, err = v.uffd.Zero(addr, uintptr(some), true)
		} else {
			n, err = v.uffd.Copy(addr, src+uintptr(done), uintptr(some), flags)
		}
		done += n
		switch {
		case err == unix.ENOENT && some > store.PageSize:
			// The program has given some of the pages other properties, and one
			// call may not reach from those into the next.
			most = store.PageSize
		case err != nil && err != unix.EAGAIN:
			return fmt.Errorf("bring %#x bytes into memory: %w", len(dst)-done, err)
		}
	}
	return nil
}

// drop makes the pages of n frames from first on absent.
func (v *Viewer) drop(first, n int64) error {
	return v.mem.drop(v.bytesOf(first, n))
}
