package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A store in memory that is opened reads back right. One of which any byte in use was
// changed is refused, but for a superblock of which there is another.
func TestOpenBytes(t *testing.T) {
	for _, c := range damageCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			open := func(image []byte, what string, at int) bool {
				s, err := OpenBytes(image, Options{})
				if err != nil {
					if err := expectedDamage("open", err); err != nil {
						t.Errorf("%s %#x: %v", what, at, err)
					}
					return false
				}
				defer s.Close()
				for off := range c.parts {
					if damaged, err := c.verifyFrame(s, off&^4095); damaged || err != nil {
						t.Errorf("%s %#x: opens, and frame at %#x is damaged (%t) or wrong: %v", what, at, off, damaged, err)
					}
				}
				return true
			}
			if !open(bytes.Clone(c.image), "whole, bytes", len(c.image)) {
				t.Fatal("refused")
			}
			used := c.usedBytes(t)
			for off := range c.image {
				bad := bytes.Clone(c.image)
				bad[off] ^= 1 << (off % 8)
				if open(bad, "changed at", off) && used[off] && off >= dataStart {
					t.Errorf("changed at %#x: opens", off)
				}
				open(c.image[:off:off], "cut to", off)
			}
		})
	}
	if s, err := OpenBytes(nil, Options{Writable: true}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("to be written: %v, %v, want %v", s, err, ErrReadOnly)
	}
}

// Bytes that were read while a writer was at work, the log's after it gave their place
// to something else, are not taken for an older generation.
func TestOpenBytesBesideWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lazy")
	w, err := Create(path, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	defer w.Close()
	write := func(n int64, commit func(*Store) error) {
		mustWrite(t, w, noise(MinFrameSize, byte(n)), n*MinFrameSize)
		must(t, commit(w))
	}
	write(1, (*Store).checkpointNow)
	write(2, (*Store).Sync)
	committed, log := w.Generation(), w.logBlocks[0]
	b, err := os.ReadFile(path)
	must(t, err)
	write(3, (*Store).checkpointNow)
	w.scrub(t)
	_, err = w.f.ReadAt(b[log:][:logBlockLen], log)
	must(t, err)
	if s, err := OpenBytes(b, Options{}); err == nil && s.Generation() < committed {
		t.Errorf("opens generation %d, want %d or an error", s.Generation(), committed)
	}
}
