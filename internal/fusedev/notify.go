package fusedev

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// What the kernel is told unasked (fuse_notify_code in linux/fuse.h).
const (
	notifyInvalInode = 2
	notifyStore      = 4
)

// InodeNotify has the kernel hand over what was written to n bytes of a file from off on,
// and forget them and the file's attributes: to the end with n 0, the attributes alone
// with a negative off. ENOENT says that the kernel does not know the inode.
func (c *Conn) InodeNotify(inode uint64, off, n int64) error {
	c.passOn() // What it hands over are requests.
	m := message(notifyInvalInode, inode, off)
	m = binary.NativeEndian.AppendUint64(m, uint64(n))
	return c.notify(m, nil)
}

// InodeNotifyStoreCache puts data, less than 4 GiB, into the kernel's pages of a file from
// off on, and makes the file longer if it ends before them.
func (c *Conn) InodeNotifyStoreCache(inode uint64, off int64, data []byte) error {
	m := message(notifyStore, inode, off)
	m = binary.NativeEndian.AppendUint32(m, uint32(len(data)))
	m = binary.NativeEndian.AppendUint32(m, 0)
	return c.notify(m, data)
}

// message begins a message about a place in a file.
func message(code uint32, inode uint64, off int64) []byte {
	m := make([]byte, 4, headLen+24) // The length comes last.
	m = binary.NativeEndian.AppendUint32(m, code)
	m = binary.NativeEndian.AppendUint64(m, 0) // No request has this number.
	m = binary.NativeEndian.AppendUint64(m, inode)
	return binary.NativeEndian.AppendUint64(m, uint64(off))
}

// notify writes a message and the data behind it.
func (c *Conn) notify(message, data []byte) error {
	binary.NativeEndian.PutUint32(message, uint32(len(message)+len(data)))
	c.open.RLock()
	defer c.open.RUnlock()
	if c.closed {
		return unix.ENODEV
	}
	_, err := unix.Writev(c.fd, [][]byte{message, data})
	return os.NewSyscallError("writev", err)
}
