package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// However a file got its name, its fsync makes that durable, too, as it does with its mode,
// and as long as it can not it says so. Of a file whose name is durable it needs no folder.
func TestFsyncKeepsName(t *testing.T) {
	back := t.TempDir()
	for _, name := range []string{"old", "moved", "one", "other", "mode"} {
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
		{"mode", func() error { return os.Chmod(d.path("mode"), 0o600) }, unix.EDQUOT},
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

// Who has a file open that others have changed, and who opens it then, know it by two nodes.
// What is done to the file by the one is kept by an fsync of the other.
func TestFsyncKeepsWhatTheOtherDid(t *testing.T) {
	for _, act := range []struct {
		name string
		do   func(path string, old *os.File) error
		sync func(old, now *os.File) error
	}{
		{"rename", func(path string, _ *os.File) error { return os.Rename(path, path+".to") },
			func(old, _ *os.File) error { return old.Sync() }},
		{"chmod", func(path string, _ *os.File) error { return os.Chmod(path, 0o640) },
			func(old, _ *os.File) error { return old.Sync() }},
		{"fchmod", func(_ string, old *os.File) error { return old.Chmod(0o640) },
			func(_, now *os.File) error { return now.Sync() }},
	} {
		back := t.TempDir()
		packed := filepath.Join(back, "f.lazy")
		pack(t, packed, text(1, 50_000))
		d := start(t, mountSpec{Source: back, Writable: true, Fsync: unix.EDQUOT})
		old, err := os.Open(d.path("f"))
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		rewrite(t, packed, []byte("short"))
		now, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer now.Close()
		if err := errors.Join(act.do(d.path("f"), old), act.sync(old, now)); !errors.Is(err, unix.EDQUOT) {
			t.Errorf("fsync after %s: %v, want %v", act.name, err, unix.EDQUOT)
		}
	}
}
