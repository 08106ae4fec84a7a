package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

const (
	// tornWait is longer than the scheduler lets a writer wait in the middle of a write,
	// most often.
	tornWait = 5 * time.Millisecond
	// tornReads bounds how often a reader looks again: a file that is just being copied
	// may change for hours.
	tornReads = 6
)

// readSuperblocks chooses the newer of the two superblocks that are whole, and
// returns the size of the file. Where one is not whole a writer may be at it, or have
// made the file longer between the two: the other may be much older than what was there
// before. A reader looks again until nothing changes any more, up to tornReads times.
func (s *Store) readSuperblocks() (fileSize int64, err error) {
	var c chosen
	last := uint32(0)
	for range tornReads {
		if fileSize, err = s.d.Size(); err != nil {
			return 0, err
		}
		c, err = readChosen(s.d, fileSize)
		torn := c.other != nil || errors.Is(err, ErrDamaged)
		if !torn || s.writable || s.f == nil || c.sum == last {
			break
		}
		last = c.sum
		time.Sleep(tornWait)
	}
	if err != nil {
		return 0, err
	}
	s.sb, s.slot, s.twins, s.slotDurable = c.sb, c.slot, c.twins, c.twins
	if u := s.sb.roCompat &^ knownROCompat; u != 0 && s.writable {
		return 0, fmt.Errorf("%w: it can be read only: feature mask %#x is not known", ErrVersion, u)
	}
	return fileSize, nil
}

// A chosen superblock is the newer one of a file.
type chosen struct {
	sb    superblock
	slot  int
	twins bool   // the other slot is a copy, which was written when this one was durable
	other error  // what is wrong with the other slot
	sum   uint32 // of all that the choice depends on
}

func readChosen(d disk, fileSize int64) (chosen, error) {
	b := getBuffer(dataStart)
	defer putBuffer(b)
	n, err := d.ReadAt(b.b, 0)
	if err != nil && err != io.EOF {
		return chosen{}, readError(err, "superblock", 0)
	}
	c, err := chooseSuperblock(b.b[:n], fileSize)
	c.sb.inline = bytes.Clone(c.sb.inline)
	c.sum = crc32.Update(uint32(fileSize), castagnoli, b.b[:n])
	return c, err
}

// chooseSuperblock chooses from b, the first dataStart bytes of a file of fileSize
// bytes.
func chooseSuperblock(b []byte, fileSize int64) (chosen, error) {
	if len(b) < dataStart {
		if len(b) >= len(magic) && string(b[:len(magic)]) == magic {
			return chosen{}, damagef("superblock", 0, "file is %d bytes, want at least %d", len(b), dataStart)
		}
		return chosen{}, ErrNotStore
	}
	var slots [2]superblock
	var errs [2]error
	for i := range slots {
		off := int64(i * slotLen)
		slots[i], errs[i] = decodeSuperblock(b[off:off+slotLen], off, fileSize)
	}
	for _, err := range errs {
		if errors.Is(err, ErrVersion) {
			return chosen{}, err // A newer program wrote it; the other slot may be older.
		}
	}
	slot := 0
	switch {
	case errs[0] == nil && errs[1] == nil:
		slot = newerSlot(&slots[0], &slots[1])
	case errs[0] == nil:
	case errs[1] == nil:
		slot = 1
	case errors.Is(errs[0], ErrNotStore):
		return chosen{}, errs[1] // A store whose first magic alone is damaged shows by its second.
	default:
		return chosen{}, errs[0]
	}
	// A copy is written only when the other slot is known to be durable.
	other := &slots[1-slot]
	twins := errs[1-slot] == nil && other.gen == slots[slot].gen && other.copied
	return chosen{sb: slots[slot], slot: slot, twins: twins, other: errs[1-slot]}, nil
}

func newerSlot(a, b *superblock) int {
	if b.gen > a.gen || b.gen == a.gen && a.copied {
		return 1
	}
	return 0
}
