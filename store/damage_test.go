package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lazyfs/codec"
)

// checked is the damage that Check reports.
func checked(t testing.TB, s *Store) []*DamageError {
	t.Helper()
	var found []*DamageError
	if err := s.Check(context.Background(), func(d *DamageError) { found = append(found, d) }, nil); err != nil {
		t.Errorf("check could not go on: %v", err)
	}
	return found
}

// A damageCase is a small store that was closed, and what it holds.
type damageCase struct {
	name  string
	image []byte
	size  int64
	parts map[int64][]byte // by offset; between them are holes
}

// closedStore builds a store by these writes, each with its own codec, and
// returns its file.
func closedStore(t *testing.T, name string, o CreateOptions, parts map[int64][]byte, codecs map[int64]codec.ID) damageCase {
	t.Helper()
	c := damageCase{name: name, parts: parts}
	path := filepath.Join(t.TempDir(), "x.lazy")
	s, err := Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	for off, p := range parts {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(path, Options{Writable: true, Codec: codecs[off]}); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, s, p, off)
		c.size = max(c.size, off+int64(len(p)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if c.image, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return c
}

func damageCases(t *testing.T) []damageCase {
	small := CreateOptions{FrameSize: 4 << 10}
	noise := func(n int) []byte {
		b := make([]byte, n)
		r := rand.NewChaCha8([32]byte{1})
		r.Read(b)
		return b
	}
	return []damageCase{
		closedStore(t, "empty", small, nil, nil),
		closedStore(t, "inline", small, map[int64][]byte{0: []byte("a short file")}, nil),
		closedStore(t, "inline-packed", small, map[int64][]byte{0: append(noise(300), text(3000, "words ")...)}, nil),
		closedStore(t, "codecs", small, map[int64][]byte{
			0: text(4096, "lz4 "), 4096: text(4096, "zstd "), 8192: text(4096, "gzip "), 12288: noise(77)},
			map[int64]codec.ID{0: codec.LZ4, 4096: codec.Zstd, 8192: codec.Gzip}),
		closedStore(t, "holes", small, map[int64][]byte{
			3 * 4096: make([]byte, 4096), 5*4096 + 9: text(4000, "data "), 9 * 4096: make([]byte, 10)}, nil),
		closedStore(t, "levels", small, map[int64][]byte{
			0: text(100, "begin "), 1024 * 4096: text(4096, "middle "), 5 << 32: text(3000, "end ")}, nil),
	}
}

// verify opens a changed image and reports an error unless every plain byte reads
// back right or not at all, with an error that says damage. damaged tells whether
// anything showed the change, Check included.
func (c damageCase) verify(image []byte) (damaged bool, err error) {
	s, err := openImage(image)
	if err != nil {
		return true, expectedDamage("open", err)
	}
	if s.Size() != c.size {
		return false, fmt.Errorf("size is %d, want %d", s.Size(), c.size)
	}
	for off := range c.parts {
		for at := off &^ 4095; at < off+int64(len(c.parts[off])); at += 4096 {
			bad, err := c.verifyFrame(s, at)
			if err != nil {
				return false, err
			}
			damaged = damaged || bad
		}
	}
	reported := false
	if err := s.Check(context.Background(), func(*DamageError) { reported = true }, nil); err != nil {
		return false, fmt.Errorf("check could not go on: %w", err)
	}
	if damaged && !reported {
		return true, errors.New("a read fails but check reports nothing")
	}
	if err := s.Dump(io.Discard); err != nil {
		return false, err
	}
	_, err = s.Info()
	return reported, expectedDamage("info", err)
}

func (c damageCase) verifyFrame(s *Store, at int64) (damaged bool, err error) {
	want := make([]byte, min(4096, c.size-at))
	for off, p := range c.parts {
		if off < at+4096 && at < off+int64(len(p)) {
			copy(want[max(0, off-at):], p[max(0, at-off):])
		}
	}
	got := make([]byte, len(want))
	if _, err := s.ReadAt(got, at); err != nil {
		return true, expectedDamage("read", err)
	}
	if !bytes.Equal(got, want) {
		return false, fmt.Errorf("frame at %#x reads back wrong", at)
	}
	return false, nil
}

func expectedDamage(what string, err error) error {
	if err == nil || errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotStore) || errors.Is(err, ErrVersion) {
		return nil
	}
	return fmt.Errorf("%s: %w, want ErrDamaged", what, err)
}

// usedBytes marks the bytes of a closed store whose change must show: everything
// but the superblock that is a copy (a change there can't be told from a copy
// that was cut off, and harms nothing), the space between frames and the bytes
// that round them up to units.
func (c damageCase) usedBytes(t *testing.T) []bool {
	s, err := openImage(bytes.Clone(c.image))
	if err != nil {
		t.Fatal(err)
	}
	used := make([]bool, len(c.image))
	mark := func(from, n int64) {
		for i := range n {
			used[from+i] = true
		}
	}
	s.idx.scan(0, maxFrameNumber+1, func(_ int64, e entry) bool {
		if e.onDisk() {
			mark(e.off(), int64(e.stored()))
		}
		return true
	})
	s.idx.nodes(func(_ int64, e entry) error {
		mark(e.off(), int64(e.stored()))
		return nil
	})
	original := int64(s.slot)
	if s.sb.copied {
		original = 1 - original
	}
	mark(original*slotLen, slotLen)
	return used
}

// Whatever single byte of a closed store changes, each page reads back right or
// fails with ErrDamaged, the size is right, and Check reports the change wherever
// a byte is in use.
func TestOneByteDamage(t *testing.T) {
	for _, c := range damageCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if damaged, err := c.verify(bytes.Clone(c.image)); damaged || err != nil {
				t.Fatalf("unchanged: damaged %v, %v", damaged, err)
			}
			used := c.usedBytes(t)
			step := 1
			if testing.Short() {
				step = 7
			}
			for off := 0; off < len(c.image); off += step {
				for _, to := range []byte{c.image[off] ^ 1<<(off%8), 0xff} {
					bad := bytes.Clone(c.image)
					bad[off] = to
					damaged, err := c.verify(bad)
					if err != nil {
						t.Errorf("byte %#x changed to %#x: %v", off, to, err)
					}
					if used[off] && !damaged && to != c.image[off] {
						t.Errorf("byte %#x changed to %#x: nothing shows it", off, to)
					}
				}
			}
		})
	}
}

// Wherever a closed store is cut, it is refused, unless only free space is gone;
// then it reads back right.
func TestTruncatedStore(t *testing.T) {
	for _, c := range damageCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := openImage(bytes.Clone(c.image))
			if err != nil {
				t.Fatal(err)
			}
			for n := range len(c.image) {
				if _, err := c.verify(c.image[:n:n]); err != nil {
					t.Errorf("cut to %#x bytes: %v", n, err)
				}
				if _, err := openImage(c.image[:n:n]); err == nil && int64(n) < s.sb.end {
					t.Errorf("cut to %#x bytes of %#x: opens", n, s.sb.end)
				}
			}
			if damaged, err := c.verify(append(bytes.Clone(c.image), 1, 2, 3)); damaged || err != nil {
				t.Errorf("three bytes longer: damaged %v, %v, want no harm", damaged, err)
			}
		})
	}
}

// What is no store of this version is told apart: foreign files, later versions
// and features, each named in the error.
func TestForeignStores(t *testing.T) {
	image := func(change func(*superblock)) []byte {
		f := newForge()
		change(&f.sb)
		return f.image()
	}
	version2 := image(func(*superblock) {})
	for _, slot := range [][]byte{version2[:slotLen], version2[slotLen:]} {
		slot[8] = 2
		resum(slot)
	}
	oneNew := image(func(*superblock) {})
	oneNew[slotLen+8] = 2
	resum(oneNew[slotLen:])
	oneLeft := bytes.Clone(oneNew)
	oneLeft[100] ^= 1
	png := append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 5000)...)
	for _, c := range []struct {
		name  string
		image []byte
		write bool
		want  error
		text  string
	}{
		{"empty", nil, false, ErrNotStore, ""},
		{"short", []byte("LAZY"), false, ErrNotStore, ""},
		{"zeros", make([]byte, 8192), false, ErrNotStore, ""},
		{"png", png, false, ErrNotStore, ""},
		{"cut", version2[:4095], false, ErrDamaged, "file is 4095 bytes"},
		{"version 2", version2, false, ErrVersion, "version 2"},
		{"one slot of version 2", oneNew, false, ErrVersion, "version 2"},
		{"one slot of version 2, the other damaged", oneLeft, false, ErrVersion, "version 2"},
		{"incompatible", image(func(s *superblock) { s.incompat = 1 << 37 }), false, ErrVersion, "bit 37"},
		{"read-only", image(func(s *superblock) { s.roCompat = 1 << 3 }), true, ErrVersion, "0x8"},
		{"read-only, read", image(func(s *superblock) { s.roCompat = 1 << 3 }), false, nil, ""},
		{"compatible", image(func(s *superblock) { s.compat = 1 << 63 }), true, nil, ""},
	} {
		s, err := openDisk(diskWith(c.image), nil, Options{Writable: c.write})
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: open gives %v, want %v with %q", c.name, err, c.want, c.text)
		}
		if err == nil && c.write {
			compat := s.sb.compat
			mustWrite(t, s, []byte("x"), 0)
			if err := s.Close(); err != nil || s.sb.compat != compat {
				t.Errorf("%s: a writer leaves features %#x, %v, want %#x", c.name, s.sb.compat, err, compat)
			}
		}
	}
	if _, err := Open(t.TempDir(), Options{}); !errors.Is(err, ErrNotStore) {
		t.Errorf("open a folder: %v, want ErrNotStore", err)
	}
}

// resum makes the checksum of a superblock right.
func resum(slot []byte) { putSum(slot[12:], slotSum(slot[:slotLen])) }

func putSum(b []byte, sum uint32) {
	for i := range 4 {
		b[i] = byte(sum >> (8 * i))
	}
}

// A DamageError says which store, what part of it and which plain bytes are lost.
func TestDamageNamesRange(t *testing.T) {
	f := newForge()
	f.leaf(f.frame(kindLZ4, 0, text(4096, "a")), f.frame(kindLZ4, 1, text(4096, "b")))
	at := getEntry(f.b[f.sb.root.off()+frameHeadLen+entryLen:]).off()
	path := filepath.Join(t.TempDir(), "bad.lazy")
	image := f.image()
	image[at+frameHeadLen] ^= 0x10
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := s.ReadAt(make([]byte, 8192), 0)
	var d *DamageError
	if !errors.As(err, &d) || n != 4096 {
		t.Fatalf("read gives %d bytes and %v, want 4096 and damage", n, err)
	}
	if d.Path != path || d.Part != "frame 1" || d.Off != at || d.Plain != (Range{4096, 4096}) {
		t.Errorf("damage is %+v, want %s, frame 1 at %#x, plain bytes 4096 to 8191", *d, path, at)
	}
	if found := checked(t, s); len(found) != 1 || *found[0] != *d {
		t.Errorf("check finds %v, want %v", found, d)
	}
}
