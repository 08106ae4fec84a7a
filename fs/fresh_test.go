package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// However a file got its name, its fsync makes that durable, too, and as long as it can
// not it says so. Of a file whose name is durable it needs no folder.
func TestFsyncKeepsName(t *testing.T) {
	back := t.TempDir()
	for _, name := range []string{"old", "moved", "one", "other"} {
		pack(t, filepath.Join(back, name+".lazy"), []byte(name))
	}
	d := start(t, mountSpec{Source: back, Writable: true, Fsync: unix.EDQUOT})
	const here = unix.AT_FDCWD
	for _, way := range []struct {
		name string // of the file then
		do   func() error
		want error
	}{
		{"old", func() error { return nil }, nil},
		{"created", func() error { return os.WriteFile(d.path("created"), nil, 0o600) }, unix.EDQUOT},
		{"mknod", func() error { return unix.Mknod(d.path("mknod"), unix.S_IFREG|0o600, 0) }, unix.EDQUOT},
		{"linked", func() error { return os.Link(d.path("one"), d.path("linked")) }, unix.EDQUOT},
		{"moved.to", func() error { return os.Rename(d.path("moved"), d.path("moved.to")) }, unix.EDQUOT},
		{"other", func() error {
			return unix.Renameat2(here, d.path("one"), here, d.path("other"), unix.RENAME_EXCHANGE)
		}, unix.EDQUOT},
	} {
		if err := way.do(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(d.path(way.name), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("more"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := f.Sync(); !errors.Is(err, way.want) {
				t.Errorf("fsync of %s: %v, want %v", way.name, err, way.want)
			}
		}
		f.Close()
	}
}
