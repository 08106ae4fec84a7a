package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func names(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// withoutTmpfile gives the file the name it would have on a file system
// without O_TMPFILE.
func withoutTmpfile(t *testing.T, n *newFile) {
	t.Helper()
	n.temp = tempName(n.path)
	if err := linkOpen(n.File, n.temp); err != nil {
		t.Fatal(err)
	}
}

// A file has its name only after finish, and discard leaves nothing else, with
// and without O_TMPFILE.
func TestNewFile(t *testing.T) {
	for _, tmpfile := range []bool{true, false} {
		for _, force := range []bool{false, true} {
			for _, finish := range []bool{false, true} {
				folder := t.TempDir()
				path := filepath.Join(folder, "x")
				want := []string(nil)
				if force {
					want = []string{"x"}
					if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				n, err := createFile(path, force)
				if err != nil {
					t.Fatal(err)
				}
				if !tmpfile {
					withoutTmpfile(t, n)
				}
				if _, err := n.WriteString("new"); err != nil {
					t.Fatal(err)
				}
				content := "old"
				if finish {
					want, content = []string{"x"}, "new"
					if err := n.finish(nil); err != nil {
						t.Errorf("tmpfile %v, force %v: finish: %v", tmpfile, force, err)
					}
				}
				n.discard()
				if got := names(t, folder); !slices.Equal(got, want) {
					t.Errorf("tmpfile %v, force %v, finish %v: folder holds %q, want %q", tmpfile, force, finish, got, want)
				}
				if got, err := os.ReadFile(path); want != nil && (string(got) != content || err != nil) {
					t.Errorf("tmpfile %v, force %v, finish %v: file is %q, %v, want %q", tmpfile, force, finish, got, err, content)
				}
			}
		}
	}
}

// Where there is no O_TMPFILE a file has another name until it is finished, and nobody else
// may read it.
func TestNewFileWithoutTmpfile(t *testing.T) {
	folder := t.TempDir()
	for errno, known := range map[unix.Errno]bool{unix.EOPNOTSUPP: true, unix.EISDIR: true, unix.EINVAL: true, unix.EIO: false} {
		onThread(t, func() error {
			if err := refuseTmpfile(errno); err != nil {
				return err
			}
			n, err := createFile(filepath.Join(folder, "x"), true)
			if !known {
				if !errors.Is(err, errno) {
					t.Errorf("open with O_TMPFILE: %v: createFile: %v, want the same", errno, err)
				}
				return nil
			}
			if err != nil {
				return err
			}
			defer n.discard()
			if info, err := os.Stat(n.temp); err != nil || info.Mode() != 0o600 {
				t.Errorf("%v: unfinished file: %v, %v, want mode 0600", errno, info, err)
			}
			return n.finish(nil)
		})
	}
	if got := names(t, folder); !slices.Equal(got, []string{"x"}) {
		t.Errorf("there are %q, want x alone", got)
	}
}

// A file that appears while the new one is written is not replaced.
func TestNewFileRace(t *testing.T) {
	for _, tmpfile := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "x")
		n, err := createFile(path, false)
		if err != nil {
			t.Fatal(err)
		}
		defer n.discard()
		if !tmpfile {
			withoutTmpfile(t, n)
		}
		if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := n.finish(nil); !errors.Is(err, unix.EEXIST) {
			t.Errorf("tmpfile %v: finish: %v, want EEXIST", tmpfile, err)
		}
		if got, err := os.ReadFile(path); string(got) != "theirs" || err != nil {
			t.Errorf("tmpfile %v: file is %q, %v, want %q", tmpfile, got, err, "theirs")
		}
	}
}

// Where rename has no flags a file gets its name all the same, and nothing is replaced.
func TestRenameNewWithoutFlags(t *testing.T) {
	folder := t.TempDir()
	from, to := filepath.Join(folder, "from"), filepath.Join(folder, "to")
	for _, path := range []string{from, to} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	onThread(t, func() error {
		if err := refuse(unix.SYS_RENAMEAT2, unix.EINVAL); err != nil {
			return err
		}
		if err := renameNew(from, to); err != unix.EEXIST {
			t.Errorf("rename to a name that is taken: %v, want EEXIST", err)
		}
		return renameNew(from, filepath.Join(folder, "new"))
	})
	if got := names(t, folder); !slices.Equal(got, []string{"new", "to"}) {
		t.Errorf("there are %q, want new and to", got)
	}
}

// A file whose name can't be given fails to finish, and nothing of it remains: a
// file has taken the place of its folder, or a folder its name.
func TestNewFileUnnamed(t *testing.T) {
	for _, tmpfile := range []bool{true, false} {
		parent := t.TempDir()
		folder := filepath.Join(parent, "folder")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		n, err := createFile(filepath.Join(folder, "x"), false)
		if err != nil {
			t.Fatal(err)
		}
		defer n.discard()
		if !tmpfile {
			withoutTmpfile(t, n)
		}
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(folder, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := n.finish(nil); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("tmpfile %v: finish where a file is the folder: %v, want ENOTDIR", tmpfile, err)
		}

		path := filepath.Join(parent, "x")
		if n, err = createFile(path, true); err != nil {
			t.Fatal(err)
		}
		defer n.discard()
		if !tmpfile {
			withoutTmpfile(t, n)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := n.finish(nil); !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EEXIST) {
			t.Errorf("tmpfile %v: finish under the name of a folder: %v, want EISDIR or EEXIST", tmpfile, err)
		}
		n.discard()
		if got := names(t, parent); !slices.Equal(got, []string{"folder", "x"}) {
			t.Errorf("tmpfile %v: parent holds %q, want folder and x alone", tmpfile, got)
		}
	}
}

// Force replaces the file a symbolic link leads to, and keeps the link.
// Nothing but a regular file is ever replaced.
func TestNewFileReplaces(t *testing.T) {
	folder := t.TempDir()
	target, link := filepath.Join(folder, "target"), filepath.Join(folder, "link")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("target", link); err != nil {
		t.Fatal(err)
	}
	n, err := createFile(link, true)
	if err != nil {
		t.Fatal(err)
	}
	defer n.discard()
	if _, err := n.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	if err := n.finish(nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(target); string(got) != "new" || err != nil {
		t.Errorf("target is %q, %v, want %q", got, err, "new")
	}
	if to, err := os.Readlink(link); to != "target" || err != nil {
		t.Errorf("link leads to %q, %v, want target", to, err)
	}

	fifo := filepath.Join(folder, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, folder, os.DevNull} {
		if n, err := createFile(path, true); err == nil {
			n.discard()
			t.Errorf("createFile(%s) with force succeeded, want an error", path)
		}
	}
}
