package load

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A block that is to be verified is laid out as fio does it for verify=crc32c,
// little-endian, so that each of the two can verify what the other wrote:
//
//	 0  magic and kind of checksum, 2 bytes each
//	 4  length of the block, 4 bytes
//	 8  seed of its content, 8 bytes
//	16  its offset, 8 bytes
//	24  time, thread, number: 12 bytes, zero here
//	36  checksum of these 36 bytes
//	40  checksum of what follows
//	44  content
const (
	headerMagic = 0xacca
	headerKind  = 5 // CRC-32C
	headerLen   = 44
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is CRC-32C without the final inversion, as fio computes it.
func checksum(b []byte) uint32 { return ^crc32.Checksum(b, castagnoli) }

// A VerifyError says that a block does not hold what was written there.
type VerifyError struct {
	Off    int64  // of the block, in bytes
	Detail string // what was found, and what was wanted
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("verify block at offset %#x: %s", e.Off, e.Detail)
}

// seal makes p a block that can be verified, to be written at off.
func seal(p []byte, off int64, seed uint64) {
	scatter(p[headerLen:], seed)
	binary.LittleEndian.PutUint16(p, headerMagic)
	binary.LittleEndian.PutUint16(p[2:], headerKind)
	binary.LittleEndian.PutUint32(p[4:], uint32(len(p)))
	binary.LittleEndian.PutUint64(p[8:], seed)
	binary.LittleEndian.PutUint64(p[16:], uint64(off))
	clear(p[24:36])
	binary.LittleEndian.PutUint32(p[36:], checksum(p[:36]))
	binary.LittleEndian.PutUint32(p[40:], checksum(p[headerLen:]))
}

// verify checks a block that was read at off. seed is what it was sealed with, or
// nil when that is not known.
func verify(p []byte, off int64, seed *uint64) error {
	wrong := func(what string, got, want uint64) error {
		if got == want {
			return nil
		}
		return &VerifyError{off, fmt.Sprintf("%s is %#x, want %#x", what, got, want)}
	}
	le := binary.LittleEndian
	for _, err := range []error{
		wrong("magic", uint64(le.Uint16(p)), headerMagic),
		wrong("kind of checksum", uint64(le.Uint16(p[2:])), headerKind),
		wrong("checksum of the header", uint64(le.Uint32(p[36:])), uint64(checksum(p[:36]))),
		wrong("length", uint64(le.Uint32(p[4:])), uint64(len(p))),
		wrong("offset", le.Uint64(p[16:]), uint64(off)),
		wrong("checksum", uint64(le.Uint32(p[40:])), uint64(checksum(p[headerLen:]))),
	} {
		if err != nil {
			return err
		}
	}
	if seed != nil {
		return wrong("seed", le.Uint64(p[8:]), *seed)
	}
	return nil
}

// scatter fills p with what looks random and depends on seed.
func scatter(p []byte, seed uint64) {
	for len(p) >= 8 {
		seed += 0x9e3779b97f4a7c15
		binary.LittleEndian.PutUint64(p, mix(seed))
		p = p[8:]
	}
	for i := range p {
		p[i] = byte(mix(seed + uint64(i)))
	}
}

// mix spreads each bit of x over all bits.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
