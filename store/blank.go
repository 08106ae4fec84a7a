package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// maxBlank bounds the zeros that Blank reads, in bytes.
const maxBlank = 1 << 20

// Blank reports whether the regular file fd holds nothing: it is empty, a hole, or has
// zeros alone, of which up to a megabyte are read. After a power cut that is what is
// left of a new store whose name reached the disk before anybody synced it; the zeros
// are those of ext4, which fills what is reserved when a part of it is written. It moves
// the file offset of fd.
func Blank(fd int) bool {
	b := getBuffer(gatherBytes)
	defer putBuffer(b)
	off := int64(0)
	for left := maxBlank; left > 0; {
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if err != nil {
			return err == unix.ENXIO // lseek(2): no data from there on.
		}
		n, err := unix.Pread(fd, b.b, data)
		if err != nil || !isZero(b.b[:n]) {
			return false
		}
		off, left = data+int64(n), left-n
	}
	return false
}

// openBlank opens f, which gave ErrNotStore, as the new store that o.Blank describes if
// it is blank. It returns err if not.
func openBlank(f *os.File, o Options, err error) (*Store, error) {
	if !Blank(int(f.Fd())) {
		return nil, err
	}
	create := *o.Blank
	create.Cache, create.DirtyBytes = o.Cache, o.DirtyBytes
	if o.Writable {
		s, err := createFile(f, create)
		if err == nil {
			s.shared, s.borrowed = o.Shared, o.Lent
		}
		return s, err
	}
	b, err := firstBlock(create)
	if err != nil {
		return nil, err
	}
	s, err := openBytes(b, o)
	if err == nil && !o.Lent {
		f.Close()
	}
	return s, err
}
