package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// Fallocate allocates (which for a store means no more than to extend it, if there
// is room), punches holes and zeroes ranges.
func (m *mount) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	// Other than with a write the kernel does not say whether the caller may keep them.
	if in.Uid != 0 {
		if err := h.file.dropPrivileges(h.node); err != nil {
			return status(err)
		}
	}
	off, n := int64(in.Offset), int64(in.Length)
	if h.fd >= 0 {
		return status(h.allocatePlain(in.Mode, off, n))
	}
	return status(h.file.allocate(in.Mode, off, n))
}

// allocatePlain is fallocate(2) of the plain file of h.
func (h *handle) allocatePlain(mode uint32, off, n int64) error {
	h.file.mu.RLock()
	defer h.file.mu.RUnlock()
	err := unix.Fallocate(h.fd, mode, off, n)
	if err == nil && mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		h.node.tellEnd(off + n)
	}
	return err
}

// allocate is fallocate(2) of a store.
func (f *file) allocate(mode uint32, off, n int64) error {
	if mode&unix.FALLOC_FL_PUNCH_HOLE == 0 {
		if err := f.roomFor(n); err != nil {
			return err
		}
	}
	zero, keepSize := false, mode&unix.FALLOC_FL_KEEP_SIZE != 0
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case 0:
		if keepSize {
			return nil
		}
	case unix.FALLOC_FL_PUNCH_HOLE:
		zero, keepSize = true, true
	case unix.FALLOC_FL_ZERO_RANGE:
		zero = true
	default:
		return unix.EOPNOTSUPP
	}
	return f.shrink(func(s *store.Store, grain int64) error {
		if zero {
			from := (off + grain - 1) / grain * grain
			if err := s.Punch(from, max((off+n)/grain*grain-from, 0)); err != nil {
				return err
			}
		}
		if !keepSize && off+n > s.Size() {
			return s.Truncate(off + n)
		}
		return nil
	})
}

// roomFor is ENOSPC if the backing file system could not hold n bytes more, however
// they compress. What is allocated is not kept for f: others may take it.
func (f *file) roomFor(n int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(f.path, &st); err != nil {
		return err
	}
	if uint64(n)/uint64(st.Bsize) > st.Bavail {
		return unix.ENOSPC
	}
	return nil
}
