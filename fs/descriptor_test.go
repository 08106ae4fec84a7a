package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// Whatever is done with files, and whatever of it fails, when nobody has one open the
// serving process has no more descriptors than before.
func TestDescriptorsAreGivenBack(t *testing.T) {
	for _, writable := range []bool{false, true} {
		back := t.TempDir()
		d := start(t, mountSpec{Source: back, Writable: writable})
		before := 0
		for round := range 4 {
			useFiles(t, back, d, writable)
			open := func() int { return len(names(t, fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))) }
			until(t, "all files are closed", func() bool {
				c := d.counters()
				return c.Files == 0 && c.Handles == 0
			})
			if round == 0 {
				before = open() // With what is opened once.
				continue
			}
			until(t, "no more is open than after the first round", func() bool { return open() <= before })
		}
	}
}

// useFiles makes files in back, does with each what one can, and removes them.
func useFiles(t *testing.T, back string, d *daemon, writable bool) {
	t.Helper()
	for range 4 {
		for _, kind := range []struct {
			suffix         string
			create, change func(t *testing.T, path string, content []byte)
		}{{".lazy", pack, rewrite}, {"", write, write}} {
			path, f := filepath.Join(back, "f"+kind.suffix), d.path("f")
			kind.create(t, path, text(1, 50_000))
			same(t, f, text(1, 50_000))
			until(t, "the file is closed", func() bool { return d.counters().Files == 0 })
			kind.change(t, path, text(2, 500)) // Who opens it is told ESTALE once.
			same(t, f, text(2, 500))
			held, err := os.Open(f)
			if err != nil {
				t.Fatal(err)
			}
			kind.change(t, path, text(3, 500))
			end := func() error { return os.Remove(path) }
			if writable {
				end = func() error { return change(d) }
			}
			if err := errors.Join(end(), held.Close()); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(back, "bad.lazy")
		pack(t, path, text(4, 50_000))
		s, err := store.Open(path, store.Options{Writable: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(d.path("bad"), 0); err == nil {
			t.Error("a store is cut to which another process writes")
		}
		s.Close()
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, bytes.Replace(content, content[16:4096], make([]byte, 4080), 1)) // The magic is left.
		if _, err := os.ReadFile(d.path("bad")); err == nil {
			t.Error("a store without superblocks is read")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// change changes file f of d, and its names, until it has none.
func change(d *daemon) error {
	f, err := os.OpenFile(d.path("f"), os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(text(5, 100_000))
	err = errors.Join(err, f.Sync(), os.Truncate(d.path("f"), 10_000), os.Chmod(d.path("f"), 0o600),
		unix.Setxattr(d.path("f"), "user.color", []byte("blue"), 0), os.Link(d.path("f"), d.path("g")),
		os.Rename(d.path("f"), d.path("h")), os.Remove(d.path("h")), os.Rename(d.path("g"), d.path("f")),
		os.WriteFile(d.path("new"), nil, 0o600), os.Rename(d.path("new"), d.path("f")), os.Remove(d.path("f")))
	fd, e := unix.Open(d.dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	return errors.Join(err, e, unix.Close(fd))
}
