package store

import (
	"encoding/binary"
	"fmt"
)

// A dumpField is one field of a superblock or a log block (FORMAT §2, §5).
type dumpField struct {
	off, len int
	name     string
	show     func(b []byte) string
}

var slotFields = []dumpField{
	{0, 8, "magic", func(b []byte) string { return fmt.Sprintf("%q", b) }},
	{8, 4, "version", showNumber},
	{12, 4, "checksum", showHex},
	{16, 8, "incompatible features", showHex},
	{24, 8, "read-only compatible features", showHex},
	{32, 8, "compatible features", showHex},
	{40, 16, "id", func(b []byte) string { return fmt.Sprintf("%x", b) }},
	{56, 8, "generation", showNumber},
	{64, 8, "plain size", showNumber},
	{72, 1, "frame size", func(b []byte) string { return fmt.Sprintf("2^%d", b[0]) }},
	{73, 1, "codec", func(b []byte) string { return kind(b[0]).String() }},
	{74, 1, "codec level", func(b []byte) string { return fmt.Sprint(int8(b[0])) }},
	{75, 1, "index levels", showNumber},
	{76, 1, "kind of inline data", func(b []byte) string { return kind(b[0]).String() }},
	{77, 1, "flags", showFlag("a copy", slotFlagCopy)},
	{78, 2, "bytes of inline data", showNumber},
	{80, 16, "index root", func(b []byte) string { return getEntry(b).String() }},
	{96, 8, "log", showHex},
	{104, 8, "log seed", showHex},
	{112, 8, "end", showHex},
	{120, 8, "frames with bytes in the file", showNumber},
	{128, 8, "bytes of these frames", showNumber},
	{136, 4, "plain bytes of inline data", showNumber},
}

var logFields = []dumpField{
	{0, 4, "magic", func(b []byte) string { return fmt.Sprintf("%q", b) }},
	{4, 4, "checksum", showHex},
	{8, 8, "seed", showHex},
	{16, 8, "generation", showNumber},
	{24, 8, "next block", showHex},
	{32, 8, "next seed", showHex},
	{40, 8, "plain size", showNumber},
	{48, 8, "durable generation", showNumber},
	{56, 2, "operations", showNumber},
	{58, 1, "flags", showFlag("end of commit", logFlagEnd)},
}

func showNumber(b []byte) string { return fmt.Sprint(fieldValue(b)) }

func showHex(b []byte) string { return fmt.Sprintf("%#x", fieldValue(b)) }

// showFlag shows flags of which one has a name.
func showFlag(name string, bit byte) func(b []byte) string {
	return func(b []byte) string {
		if b[0] == bit {
			return name
		}
		return fmt.Sprintf("%#x", b[0])
	}
}

// fieldValue is the number in a field of at most 8 bytes.
func fieldValue(b []byte) uint64 {
	var v [8]byte
	copy(v[:], b)
	return binary.LittleEndian.Uint64(v[:])
}
