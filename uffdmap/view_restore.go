package uffdmap

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// copyHeld copies src to dst, of which one is held, memory of frames that the caller
// has pinned or claimed. Pages that the program itself dropped from those come back as
// the store has them. What it made unusable in another way gives EFAULT.
func (v *Viewer) copyHeld(dst, src, held []byte) (int, error) {
	return v.copyRestoring(dst, src, held, v.restoreHanded)
}

// copyRestoring is copyHeld with restore or restoreHanded.
func (v *Viewer) copyRestoring(dst, src, held []byte, restore func(n int64) (bool, error)) (int, error) {
	for last := uintptr(0); ; {
		trapped := copyUntilTrap(dst, src)
		if trapped == 0 {
			return min(len(dst), len(src)), nil
		}
		if trapped < address(held) || trapped-address(held) >= uintptr(len(held)) {
			return copy(dst, src), nil // A trap of the caller's, as if not caught.
		}
		at := int64(trapped - v.mem.addr)
		restored, err := restore(v.frameOf(at))
		if err == nil && !restored && trapped == last {
			err = fmt.Errorf("touch memory at %#x of the mapping, which the program changed: %w", at, unix.EFAULT)
		}
		if err != nil {
			return 0, err
		}
		last = trapped
	}
}

// copyUntilTrap copies src to dst. Where that traps it stops and returns the
// address, otherwise 0.
func copyUntilTrap(dst, src []byte) (trapped uintptr) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			trapped = r.(interface{ Addr() uintptr }).Addr()
		}
	}()
	copy(dst, src)
	return 0
}

// restoreHanded is restore when the store has what a Sync has copied of frame n, which is
// pinned: a page dropped since then must not come back older.
func (v *Viewer) restoreHanded(n int64) (restored bool, err error) {
	v.handing.Lock()
	defer v.handing.Unlock()
	return v.restore(n)
}

// restore brings in those pages of frame n, which is held or claimed, that the
// program itself dropped, and says whether there were any.
func (v *Viewer) restore(n int64) (restored bool, err error) {
	// What is absent now stays so until it is installed: a page that comes back,
	// is written, synced and dropped again must not become what is read now.
	v.restoring.Lock()
	defer v.restoring.Unlock()
	frame := v.bytesOf(n, 1)
	var absent []int
	for off := 0; off < len(frame); off += store.PageSize {
		var b [1]byte
		if copyUntilTrap(b[:], frame[off:off+1]) != 0 {
			absent = append(absent, off)
		}
	}
	if absent == nil {
		return false, nil
	}
	buf, err := v.scratch.get()
	if err != nil {
		return false, err
	}
	defer v.scratch.put(buf)
	_, zeros, err := readFrames(v.src, n, buf.b[:len(frame)], time.Time{})
	if err != nil {
		return false, err
	}
	if zeros != 0 {
		clear(buf.b[:len(frame)])
	}
	for _, off := range absent {
		err := v.place(frame[off:off+store.PageSize], buf.addr+uintptr(off), false)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return false, err
		}
		restored = restored || err == nil // Otherwise it is there, and traps all the same.
	}
	return restored, nil
}
