// Package codec compresses and decompresses single frames.
//
// A frame is compressed alone: no state passes from one to the next, and a
// frame decodes from its stored bytes and its plain length only. All codecs are
// pure Go and safe for use by many goroutines at once. Once warm they allocate
// nothing per frame: tables, windows and scratch space come from pools that all
// codecs of one kind share.
package codec

import (
	"errors"
	"fmt"
	"strings"
)

// An ID names a codec in a store (FORMAT.md, frame kinds).
type ID uint8

// The codecs. The values are on disk and never change.
const (
	Raw  ID = 1 // the plain bytes
	LZ4  ID = 2 // one LZ4 block
	Zstd ID = 3 // one Zstandard frame with content size, without checksum
	Gzip ID = 4 // one or more gzip members (RFC 1952)
)

var (
	// ErrShort says that the destination is too small for the result.
	ErrShort = errors.New("destination too short")
	// ErrCorrupt says that the input is not what the codec's encoder writes.
	ErrCorrupt = errors.New("corrupt compressed data")
)

// A Codec compresses frames with one method at one level. Its methods may be
// called from many goroutines at once and keep neither dst nor src.
type Codec interface {
	// ID is the codec's number in a store.
	ID() ID

	// Encode compresses src into dst and returns the number of bytes written.
	// When the result does not fit into len(dst) it returns ErrShort. dst and
	// src may not overlap.
	Encode(dst, src []byte) (int, error)

	// Decode decompresses src into dst and returns the number of bytes written,
	// which is the plain length. It never writes past len(dst). Input that
	// decodes to more gives ErrShort, other bad input ErrCorrupt; what dst holds
	// then is undefined.
	Decode(dst, src []byte) (int, error)

	// DecodePart is Decode for who wants no more than the first need bytes, and may
	// stop behind them: then it returns need, and what dst holds behind those and
	// whether all of src is good is undefined.
	DecodePart(dst, src []byte, need int) (int, error)
}

// kinds holds what the codecs differ in besides their methods, by ID.
var kinds = [...]struct {
	name     string
	maxLevel int
}{
	Raw:  {"raw", 0},
	LZ4:  {"lz4", 9},
	Zstd: {"zstd", 22},
	Gzip: {"gzip", 9},
}

// New returns the codec with number id at level.
//
// Level 0 is the codec's default. A higher level trades speed of encoding for
// size; each codec decodes what any of its levels wrote.
//
//	raw   0
//	lz4   0 to 9   0: fast; 1 to 9: high compression, search depth doubling from 4
//	zstd  0 to 22  0: as 3; 1-2, 3-5, 6-9 and 10-22 are one speed each
//	gzip  0 to 9   0: as 6
func New(id ID, level int) (Codec, error) {
	if !id.valid() {
		return nil, fmt.Errorf("unknown codec %d", uint8(id))
	}
	if limit := kinds[id].maxLevel; level < 0 || level > limit {
		return nil, fmt.Errorf("codec %v: level is %d, want 0 to %d", id, level, limit)
	}
	switch id {
	case LZ4:
		return lz4Codec{level}, nil
	case Zstd:
		return newZstd(level), nil
	case Gzip:
		return newGzip(level), nil
	}
	return rawCodec{}, nil
}

// Parse turns a codec's name ("raw", "lz4", "zstd", "gzip") into its number.
func Parse(name string) (ID, error) {
	var names []string
	for id := Raw; id.valid(); id++ {
		if kinds[id].name == name {
			return id, nil
		}
		names = append(names, kinds[id].name)
	}
	return 0, fmt.Errorf("unknown codec %q, want one of %s", name, strings.Join(names, ", "))
}

// String is the codec's name.
func (id ID) String() string {
	if !id.valid() {
		return fmt.Sprintf("codec %d", uint8(id))
	}
	return kinds[id].name
}

// valid says whether id is one of the codecs.
func (id ID) valid() bool { return id >= Raw && int(id) < len(kinds) }

// corrupt makes an error that matches ErrCorrupt and names the codec and cause.
func corrupt(id ID, cause any) error {
	return fmt.Errorf("%w: %v: %v", ErrCorrupt, id, cause)
}
