package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
)

// CreateOptions say what a new store is like. The zero value is ready to use.
type CreateOptions struct {
	Codec      codec.ID // zero: codec.LZ4
	Level      int      // zero: the codec's default
	FrameSize  int      // bytes, a power of two; zero: DefaultFrameSize
	Cache      *Cache   // as in Options
	DirtyBytes int64    // as in Options
}

// Create makes a new store at path, which must not exist, and opens it for
// writing. The new file is durable after the first Sync.
func Create(path string, o CreateOptions) (*Store, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return nil, err
	}
	s, err := CreateFile(f, o)
	if err != nil {
		err = errors.Join(err, ignoreNotExist(os.Remove(path)))
	}
	return s, err
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// CreateFile makes a new store in the file f, which is Blank, and open for reading
// and writing, and opens it for writing. f belongs to the store from then on,
// also when CreateFile fails.
func CreateFile(f *os.File, o CreateOptions) (*Store, error) {
	s, err := createFile(f, o)
	if err != nil {
		f.Close()
		return nil, during("create store", f.Name(), err)
	}
	return s, nil
}

func createFile(f *os.File, o CreateOptions) (*Store, error) {
	if err := lockWriter(f); err != nil {
		return nil, err
	}
	d := fileDisk{f}
	n, err := d.Size()
	switch {
	case err != nil:
		return nil, err
	case n > 0 && !Blank(int(f.Fd())):
		return nil, fmt.Errorf("file is not empty: %w", fs.ErrExist)
	case n > 0:
		if err := d.Truncate(0); err != nil {
			return nil, err
		}
	}
	return createDisk(d, f, o)
}

// createDisk writes the first block of a new store on d, whose file is f if it is one,
// and opens it for writing.
func createDisk(d disk, f *os.File, o CreateOptions) (*Store, error) {
	b, err := firstBlock(o)
	if err != nil {
		return nil, err
	}
	if _, err := d.WriteAt(b, 0); err != nil {
		return nil, err
	}
	s, err := openDisk(d, f, Options{Writable: true, Cache: o.Cache, DirtyBytes: o.DirtyBytes})
	if err != nil {
		return nil, err
	}
	if err := s.loadSpace(); err != nil {
		return nil, err
	}
	s.durable, s.slotDurable = 0, false // Until the first Sync.
	return s, nil
}

// firstBlock is all that a new store consists of.
func firstBlock(o CreateOptions) ([]byte, error) {
	sb, err := newSuperblock(o)
	if err != nil {
		return nil, err
	}
	b := make([]byte, dataStart)
	sb.encode(b[:slotLen])
	sb.copied = true
	sb.encode(b[slotLen:])
	return b, nil
}

// Check tells what is wrong with o, if anything is.
func (o CreateOptions) Check() error {
	_, err := newSuperblock(o)
	return err
}

func newSuperblock(o CreateOptions) (*superblock, error) {
	if o.FrameSize == 0 {
		o.FrameSize = DefaultFrameSize
	}
	if o.Codec == 0 {
		o.Codec = codec.LZ4
	}
	sb := &superblock{gen: 1, codec: o.Codec, level: int8(o.Level), logOff: dataStart, end: dataStart, logSeed: newSeed()}
	for sb.frameSize() < min(o.FrameSize, MaxFrameSize) {
		sb.frameShift++
	}
	if sb.frameSize() != o.FrameSize || o.FrameSize < MinFrameSize {
		return nil, fmt.Errorf("frame size is %d bytes, want a power of two from %d to %d", o.FrameSize, MinFrameSize, MaxFrameSize)
	}
	if _, err := codec.New(o.Codec, o.Level); err != nil {
		return nil, err
	}
	rand.Read(sb.id[:])
	return sb, nil
}

func newSeed() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}
