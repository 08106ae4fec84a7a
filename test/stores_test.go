package test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lazyfs/store"
)

// An oldStore is a store that an earlier lazyfs wrote, and a line of stores/SUMS.
type oldStore struct {
	sum        string // SHA-256 of the plain bytes, in hex
	size       int64
	generation uint64
	name       string
}

// oldStores are those in the folder stores: of each version of the format one of
// each shape; v1-log was left by a writer that was killed. None of them changes,
// and none is ever removed.
func oldStores(t *testing.T) []oldStore {
	t.Helper()
	sums, err := os.ReadFile("stores/SUMS")
	if err != nil {
		t.Fatal(err)
	}
	var all []oldStore
	for line := range strings.Lines(string(sums)) {
		var s oldStore
		if _, err := fmt.Sscan(line, &s.sum, &s.size, &s.generation, &s.name); err != nil {
			t.Fatalf("stores/SUMS: %q: %v", line, err)
		}
		all = append(all, s)
	}
	files, err := filepath.Glob("stores/*.lazy")
	if err != nil || len(files) != len(all) || len(all) == 0 {
		t.Fatalf("%d stores, %d sums, %v", len(files), len(all), err)
	}
	return all
}

// Stores that any earlier version wrote open for ever, with the same bytes, and
// pass check.
func TestOldStores(t *testing.T) {
	for _, old := range oldStores(t) {
		s, err := store.Open(filepath.Join("stores", old.name), store.Options{})
		if err != nil {
			t.Error(err)
			continue
		}
		if s.Size() != old.size || s.Generation() != old.generation {
			t.Errorf("%s: size %d of generation %d, want %d of %d", old.name, s.Size(), s.Generation(), old.size, old.generation)
		}
		old.verify(t, s, old.size)
		s.Close()
	}
}

// verify compares the first size plain bytes with what the store held, and
// checks it.
func (old oldStore) verify(t *testing.T, s *store.Store, size int64) {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(s, 0, size))
	if got := hex.EncodeToString(h.Sum(nil)); err != nil || n != size || got != old.sum {
		t.Errorf("%s: %d bytes with sum %s, %v; want %d with %s", old.name, n, got, err, old.size, old.sum)
	}
	if err := s.Check(context.Background(), func(d *store.DamageError) { t.Error(d) }, nil); err != nil {
		t.Errorf("%s: %v", old.name, err)
	}
}

// Writing into a store that an earlier version wrote keeps its other bytes.
func TestOldStoresGrow(t *testing.T) {
	for _, old := range oldStores(t) {
		image, err := os.ReadFile(filepath.Join("stores", old.name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), old.name)
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(path, store.Options{Writable: true})
		if err != nil {
			t.Error(err)
			continue
		}
		more := []byte(strings.Repeat("more ", 3000))
		if _, err := s.WriteAt(more, old.size); err != nil {
			t.Errorf("%s: %v", old.name, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", old.name, err)
		}
		if s, err = store.Open(path, store.Options{}); err != nil {
			t.Error(err)
			continue
		}
		old.verify(t, s, old.size)
		got := make([]byte, len(more))
		if _, err := s.ReadAt(got, old.size); err != nil || string(got) != string(more) {
			t.Errorf("%s: what was written reads back wrong: %v", old.name, err)
		}
		s.Close()
	}
}
