package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"lazyfs/store"
)

// A copy has the mode of what it is a copy of, also when another store takes the name
// meanwhile.
func TestCopyReplaced(t *testing.T) {
	dir := t.TempDir()
	modes := []os.FileMode{0o600, 0o644}
	for i, name := range []string{"secret", "public"} {
		s, err := store.Create(filepath.Join(dir, name), store.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.WriteAt([]byte{byte(i)}, 0)
		if err := errors.Join(err, s.Close(), os.Chmod(filepath.Join(dir, name), modes[i])); err != nil {
			t.Fatal(err)
		}
	}
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.Link(filepath.Join(dir, "secret"), src); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan bool), make(chan error)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			next := filepath.Join(dir, "next")
			if err := errors.Join(os.Link(filepath.Join(dir, []string{"public", "secret"}[i%2]), next), os.Rename(next, src)); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for range 100 {
		if err := copyStore(t.Context(), src, dst, true, true); err != nil {
			t.Error(err)
			break
		}
		of := copied(t, dst)
		if info, err := os.Stat(dst); err != nil || info.Mode() != modes[of] {
			t.Errorf("copy of the store with mode %v: %v, mode %v", modes[of], err, info.Mode())
			break
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// copied is the first byte of the store at path.
func copied(t *testing.T, path string) byte {
	t.Helper()
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var b [1]byte
	if _, err := s.ReadAt(b[:], 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b[0]
}
