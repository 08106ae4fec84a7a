package fs

import (
	"io"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// Read is read(2) of what is not in the kernel's pages, and read-ahead.
func (m *mount) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := m.handles.get(in.Fh)
	if h == nil {
		return nil, fuse.EBADF
	}
	buf = buf[:min(len(buf), int(in.Size))]
	var n int
	var err error
	if h.fd >= 0 {
		n, err = unix.Pread(h.fd, buf, int64(in.Offset))
	} else {
		// The kernel takes a short answer for the end of the file, so one
		// that hit a damaged frame fails as a whole. The kernel then asks
		// again page by page.
		n, err = h.file.readAt(buf, int64(in.Offset))
	}
	if err != nil {
		return nil, status(err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write is the write-back of the kernel's pages, and write(2) past them.
func (m *mount) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	h := m.handles.get(in.Fh)
	if h == nil {
		return 0, fuse.EBADF
	}
	fromPages := in.WriteFlags&fuse.WRITE_CACHE != 0
	n, err := h.write(in, data, fromPages)
	if err != nil && fromPages {
		h.file.lose(err)
	}
	return n, status(err)
}

func (h *handle) write(in *fuse.WriteIn, data []byte, fromPages bool) (uint32, error) {
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := h.file.dropPrivileges(h.node); err != nil {
			return 0, err
		}
	}
	if h.fd >= 0 {
		n, err := h.writePlain(data, int64(in.Offset), fromPages)
		if fromPages {
			h.file.wrotePlain(h.fd)
		}
		return uint32(max(n, 0)), err
	}
	err := h.file.change(fromPages, func(s *store.Store) error {
		_, err := s.WriteAt(data, int64(in.Offset))
		return err
	})
	if err != nil {
		return 0, err
	}
	return uint32(len(data)), nil
}

// writePlain is pwrite(2) to the plain file of h. What comes from the kernel's pages is
// written as a whole, since the kernel does not look at how much of it was.
func (h *handle) writePlain(data []byte, off int64, fromPages bool) (int, error) {
	h.file.mu.RLock()
	defer h.file.mu.RUnlock()
	for done := 0; ; {
		n, err := unix.Pwrite(h.fd, data[done:], off+int64(done))
		if n > 0 {
			done += n
			h.node.tellEnd(off + int64(done))
		}
		if err != nil || done == len(data) || !fromPages {
			return done, err
		}
	}
}

// Flush is close(2) of one descriptor of a handle. The commit happens here and not
// in Release, because close waits for this.
func (m *mount) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	h.settlePlain()
	if err := h.file.commit(); err != nil {
		return status(err)
	}
	h.closed.Store(true)
	if h.writes {
		if err := h.newLoss(); err != nil {
			return status(err)
		}
	}
	m.files.waitForRoom()
	return fuse.OK
}

// fdatasyncOnly is FUSE_FSYNC_FDATASYNC (include/uapi/linux/fuse.h).
const fdatasyncOnly = 1

// Fsync is fsync(2) and fdatasync(2).
func (m *mount) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	h.newLoss() // Of that the kernel tells before it asks for this.
	dataOnly := in.FsyncFlags&fdatasyncOnly != 0
	if err := h.sync(dataOnly); err != nil {
		return status(err)
	}
	for _, n := range m.nodes.standing(h.node) {
		if h.fd < 0 && !dataOnly {
			if err := m.syncInode(n, h.file); err != nil {
				return status(err)
			}
		}
		if err := m.syncNames(n, h.file); err != nil {
			return status(err)
		}
	}
	return fuse.OK
}

func (h *handle) sync(dataOnly bool) error {
	switch {
	case h.fd < 0:
		return h.file.sync()
	case dataOnly:
		return unix.Fdatasync(h.fd)
	}
	return unix.Fsync(h.fd)
}

// Lseek is lseek(2) with SEEK_DATA and SEEK_HOLE.
func (m *mount) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	at, err := m.seek(h, int64(in.Offset), in.Whence)
	out.Offset = uint64(max(at, 0))
	return status(err)
}

// seek is handle.seek, but a hole, or the end, may be one because what was written is
// still in the kernel's pages: the kernel has to hand it over before the answer.
func (m *mount) seek(h *handle, off int64, whence uint32) (at int64, err error) {
	for flushed := int64(-1); ; {
		at, err = h.seek(off, whence)
		hole := off
		switch {
		case whence == unix.SEEK_HOLE && err == nil:
			hole = at
		case err == unix.ENXIO:
		case whence == unix.SEEK_DATA && err == nil && at > off:
		default:
			return at, err
		}
		if hole == flushed || !m.opt.Writable || h.node.store && !h.file.isWritable() {
			return at, err
		}
		end, err := h.seek(hole, unix.SEEK_DATA)
		if err != nil {
			end = hole // Zero bytes stand for all up to the end of the file.
		}
		m.conn.InodeNotify(h.node.id, hole, end-hole)
		flushed = hole
	}
}

// seek tells where data or a hole is in what the kernel has handed over.
func (h *handle) seek(off int64, whence uint32) (int64, error) {
	if h.fd >= 0 {
		return unix.Seek(h.fd, off, int(whence))
	}
	return h.file.seek(off, whence)
}

// seek is lseek(2) with SEEK_DATA or SEEK_HOLE in the store.
func (f *file) seek(off int64, whence uint32) (at int64, err error) {
	err = f.use(func(s *store.Store) error {
		switch whence {
		case unix.SEEK_DATA:
			at, err = s.SeekData(off)
		case unix.SEEK_HOLE:
			at, err = s.SeekHole(off)
		default:
			err = unix.EINVAL
		}
		return err
	})
	if err == io.EOF {
		err = unix.ENXIO
	}
	return at, err
}

// StatFs is statfs(2): the space is that of the backing file system.
func (m *mount) StatFs(_ <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	n := m.nodes.get(h.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	u, err := m.useInode(n)
	if err != nil {
		return status(err)
	}
	defer m.done(u)
	var st unix.Statfs_t
	if err := unix.Fstatfs(u.fd, &st); err != nil {
		return status(err)
	}
	*out = fuse.StatfsOut{
		Blocks:  st.Blocks,
		Bfree:   st.Bfree,
		Bavail:  st.Bavail,
		Files:   st.Files,
		Ffree:   st.Ffree,
		Bsize:   uint32(st.Bsize),
		NameLen: maxName,
		Frsize:  uint32(st.Frsize),
	}
	return fuse.OK
}
