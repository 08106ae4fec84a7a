package store

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A disk is what a store asks of the file that holds it. Tests put a simulated
// one in its place, to cut the power between any two operations.
type disk interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	Blocks() (int64, error) // bytes of the disk that the file takes
	Truncate(size int64) error
	Punch(off, n int64) error   // gives the space back; the bytes read as zeros
	Reserve(off, n int64) error // later writes there find room; Size and bytes stay
	Datasync() error            // all finished writes survive a power cut
	Forget(off, n int64)        // later reads of the range see what survives
}

// fileDisk is a disk on an ordinary file.
type fileDisk struct{ *os.File }

func (d fileDisk) Size() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, fmt.Errorf("%w: not a regular file", ErrNotStore)
	}
	return st.Size, nil
}

func (d fileDisk) Blocks() (int64, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(d.Fd()), &st)
	return st.Blocks * 512, os.NewSyscallError("fstat", err)
}

// Punch gives whole file-system blocks within the range back. File systems that
// can't punch (EOPNOTSUPP) keep the space for reuse.
func (d fileDisk) Punch(off, n int64) error {
	err := retryEINTR(func() error {
		return unix.Fallocate(int(d.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return os.NewSyscallError("fallocate", err)
}

// Reserve takes blocks for the range, which may lie behind the end of the file.
// File systems that can't (EOPNOTSUPP) say only later that they are full.
func (d fileDisk) Reserve(off, n int64) error {
	err := retryEINTR(func() error {
		return unix.Fallocate(int(d.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return os.NewSyscallError("fallocate", err)
}

func (d fileDisk) Datasync() error {
	err := retryEINTR(func() error { return unix.Fdatasync(int(d.Fd())) })
	return os.NewSyscallError("fdatasync", err)
}

// Forget drops the range from the kernel's memory, as far as it is clean there, and
// has the disk begin to read it. After a failed fdatasync pages count as clean that
// were never written (fsync(2)).
func (d fileDisk) Forget(off, n int64) {
	from := off &^ (PageSize - 1)
	for _, advice := range []int{unix.FADV_DONTNEED, unix.FADV_WILLNEED} {
		unix.Fadvise(int(d.Fd()), from, roundUp(off+n, PageSize)-from, advice)
	}
}

func retryEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
