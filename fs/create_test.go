package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// Who writes a file anew that others have just removed, or put another in the place of,
// writes one that is there, although somebody has the old one open and the kernel
// believes in its name.
func TestWriteAfterOthersRemove(t *testing.T) {
	for _, kind := range []struct {
		suffix string
		create func(t *testing.T, path string, content []byte)
	}{{".lazy", pack}, {"", write}} {
		back := t.TempDir()
		path, other := filepath.Join(back, "f"+kind.suffix), filepath.Join(back, "g"+kind.suffix)
		kind.create(t, path, []byte("old"))
		kind.create(t, other, []byte("other"))
		d := mountRW(t, back)
		for _, take := range []func() error{
			func() error { return os.Rename(other, path) },
			func() error { return os.Remove(path) },
		} {
			f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := take(); err != nil {
				t.Fatal(err)
			}
			write(t, d.path("f"), []byte("new"))
			d.kill()
			if names := names(t, back); !slices.Contains(names, "f.lazy") && !slices.Contains(names, "f") {
				t.Errorf("what was written is not there: %q", names)
			}
			d = mountRW(t, back)
			same(t, d.path("f"), []byte("new"))
		}
	}
}

// A file that others have changed is another to the kernel. The former is not opened any
// more by who has found it before: each would have pages of its own.
func TestFormerIsNotOpened(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "f.lazy")
	pack(t, path, text(1, 10_000))
	d := mountRW(t, back)
	found, err := unix.Open(d.path("f"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(found)
	rewrite(t, path, text(2, 20_000))
	until(t, "stat shows the size", func() bool {
		fi, err := os.Stat(d.path("f"))
		return err == nil && fi.Size() == 20_000
	})
	f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", found)); !errors.Is(err, unix.ESTALE) {
		t.Errorf("opening the former: %v, want %v", err, unix.ESTALE)
	}
}
