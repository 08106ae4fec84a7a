package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is changed later has a time that is not older, whether it is a store or not:
// programs like make go by that.
func TestTimesInOrder(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	write(t, d.path("store"), []byte("1"))
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	last := time.Time{}
	for i := range 200 {
		path := []string{plain, d.path("store")}[i%2]
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{byte(i)}, 0)
		fi, statErr := f.Stat()
		if err := errors.Join(err, statErr, f.Close()); err != nil {
			t.Fatal(err)
		}
		if fi.ModTime().Before(last) {
			t.Fatalf("change %d, of %s, is from %v, the one before from %v", i, filepath.Base(path), fi.ModTime(), last)
		}
		last = fi.ModTime()
	}
}
