package store

import (
	"bytes"
	"path/filepath"
	"testing"
)

// Whatever generation a reader expects, it sees the newest, and the space of that is
// pinned while it is open and not any more afterwards.
func TestExpect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	s, err := Create(path, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 100_000)
	for i := range byte(5) {
		for at := range want {
			want[at] = i + byte(at*at>>3)
		}
		if _, err := s.WriteAt(want, 0); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := s.checkpointNow(); err != nil {
			t.Fatal(err)
		}
	}
	newest := s.Generation()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f := lockFile(t, path)
	for _, expect := range []uint64{0, 1, newest - 1, newest, newest + 1, maxGeneration, maxGeneration + 1} {
		r, err := Open(path, Options{Expect: expect})
		if err != nil {
			t.Fatalf("expecting generation %d: %v", expect, err)
		}
		got := make([]byte, len(want))
		if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) || r.Generation() != newest {
			t.Errorf("expecting generation %d: generation %d, %v, want the bytes of %d", expect, r.Generation(), err, newest)
		}
		oldest, ok, err := oldestPin(f, newest+1)
		if err != nil || !ok || oldest > newest {
			t.Errorf("expecting generation %d: pins %d, %t, %v, want one up to %d", expect, oldest, ok, err, newest)
		}
		if above, ok, err := oldestPin(f, maxGeneration+1); err != nil || ok && above > newest {
			t.Errorf("expecting generation %d: pins %d, %t, %v", expect, above, ok, err)
		}
		r.Close()
		if oldest, ok, err := oldestPin(f, maxGeneration+1); ok || err != nil {
			t.Errorf("expecting generation %d: closed, it pins %d, %v", expect, oldest, err)
		}
	}
}
