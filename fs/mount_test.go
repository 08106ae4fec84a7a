package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
	"lazyfs/fs"
	"lazyfs/store"
)

// Options that can't be followed are refused, and not ignored or found out by who makes a file.
func TestMountRefusesOptions(t *testing.T) {
	for want, o := range map[string]fs.Options{
		`restriction is "nosiud"`:     {Restrict: []string{"nodev", "nosiud"}},
		"frame size is 3000 bytes":    {FrameSize: 3000},
		"frame size is 2097152 bytes": {FrameSize: 2 << 20},
		"level":                       {Codec: codec.Zstd, Level: 1000},
	} {
		s, err := fs.Mount(t.TempDir(), t.TempDir(), o)
		if err == nil {
			s.Unmount()
			t.Errorf("%+v are taken", o)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("Mount gives %q, want %q", err, want)
		}
	}
}

// What can't be mounted, or mounted on, is refused at once, whatever it is.
func TestMountRefusesPlaces(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("plain"), []byte("plain"))
	pack(t, at("f.lazy"), []byte("packed"))
	if err := unix.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source, dir string
		want        error
	}{
		{at("plain"), t.TempDir(), store.ErrNotStore},
		{at("pipe"), t.TempDir(), store.ErrNotStore},
		{at("none"), t.TempDir(), unix.ENOENT},
		{at("f.lazy"), at("plain"), unix.ENOTDIR},
		{at("f.lazy"), at("none"), unix.ENOENT},
	} {
		refused := make(chan error, 1)
		go func() {
			s, err := fs.Mount(c.source, c.dir, fs.Options{})
			if err == nil {
				s.Unmount()
			}
			refused <- err
		}()
		select {
		case err := <-refused:
			if !errors.Is(err, c.want) {
				t.Errorf("mount %s on %s: %v, want %v", c.source, c.dir, err, c.want)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("mount %s on %s does not return", c.source, c.dir)
		}
	}
}

// A link to a store is mounted as the store that it leads to.
func TestMountByLink(t *testing.T) {
	back := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	pack(t, filepath.Join(back, "f.lazy"), text(1, 5000))
	if err := os.Symlink(filepath.Join(back, "f.lazy"), link); err != nil {
		t.Fatal(err)
	}
	d := mountRO(t, link)
	if got := names(t, d.dir); len(got) != 1 || got[0] != "f" {
		t.Errorf("the mount shows %q, want f", got)
	}
	same(t, d.path("f"), text(1, 5000))
	d.umount()
}
