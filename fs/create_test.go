package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Who opens a file to create it while somebody else makes it behind the mount gets that
// one, emptied if he wants it empty, although the kernel knew of none.
func TestCreateAfterOthers(t *testing.T) {
	for _, kind := range []struct {
		name   string
		create func(t *testing.T, path string, content []byte)
	}{{"f.lazy", pack}, {"f", write}} {
		for flags, want := range map[int]string{
			unix.O_TRUNC:  "mine",
			unix.O_APPEND: "theirsmine",
			unix.O_EXCL:   "theirs",
		} {
			back := t.TempDir()
			d := mountRW(t, back)
			if _, err := os.Stat(d.path("f")); !os.IsNotExist(err) {
				t.Fatalf("stat: %v", err)
			}
			kind.create(t, filepath.Join(back, kind.name), []byte("theirs"))
			f, err := os.OpenFile(d.path("f"), os.O_CREATE|os.O_WRONLY|flags, 0o644)
			if exists := os.IsExist(err); exists != (flags == unix.O_EXCL) || err != nil && !exists {
				t.Errorf("%s, flags %#x: %v", kind.name, flags, err)
			}
			if err == nil {
				_, err = f.WriteString("mine")
				if err := errors.Join(err, f.Close()); err != nil {
					t.Error(err)
				}
			}
			same(t, d.path("f"), []byte(want))
		}
	}
}
