package store

import (
	"bytes"
	"errors"
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
