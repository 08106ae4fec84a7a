package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
	"lazyfs/store"
)

// What takes the name of a file of a folder while that is packed is packed with its own
// mode, or refused when it is no regular file: a named pipe is not waited for, and a
// symbolic link does not lead to what is not in the folder.
func TestPackFolderChanging(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, err string
		replace   func(path string) error
	}{
		{"a file", "", func(path string) error { return os.Link(secret, path) }},
		{"a pipe", "is no regular file any more", func(path string) error { return unix.Mkfifo(path, 0o644) }},
		{"a link", "too many levels of symbolic links", func(path string) error { return os.Symlink(secret, path) }},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "src/x")
		if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		listed, err := readTree(dir + "/src")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := c.replace(file); err != nil {
			t.Fatal(err)
		}
		p := packer{options: store.CreateOptions{Codec: codec.LZ4, FrameSize: store.DefaultFrameSize}}
		m := mirror{
			src: dir + "/src", dst: dir + "/dst", jobs: 1,
			plan: func(rel string) (string, bool, error) { return rel, true, nil },
			convert: func(ctx context.Context, src *os.File, e treeEntry, jobs int) error {
				return p.packFile(ctx, src, e, jobs, nil)
			},
		}
		err = m.run(t.Context(), listed)
		if c.err != "" {
			if err == nil || !strings.HasSuffix(err.Error(), file+": "+c.err) {
				t.Errorf("a file becomes %s: %v, want %s", c.what, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir + "/dst/x")
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("a file becomes another: its store has mode %v, want that of its content", info.Mode())
		}
	}
}

// A name that the new folder can't have is told before all the work.
func TestMirrorName(t *testing.T) {
	src := t.TempDir()
	for name, want := range map[string]error{
		strings.Repeat("x", 256): unix.ENAMETOOLONG,
		"x/y":                    unix.ENOENT,
	} {
		m := mirror{src: src, dst: filepath.Join(t.TempDir(), name)}
		if err := m.checkTarget(); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// An ordinary user gives folders modes that keep him out of them, and removes such a tree.
func TestFoldersThatDeny(t *testing.T) {
	dir := t.TempDir()
	reachable(t, dir)
	// Others may read src and src/p, who will be the owner of their copies not.
	for _, path := range []string{"/src", "/src/p", "/src/p/q"} {
		if err := os.Mkdir(dir+path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir+"/src", 0o055), os.Chmod(dir+"/src/p", 0o055), os.Chmod(dir+"/src/p/q", 0o555), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	onThread(t, func() error {
		if err := asNobody(); err != nil {
			return err
		}
		listed, err := readTree(dir + "/src")
		if err != nil {
			return err
		}
		m := mirror{src: dir + "/src", dst: dir + "/dst", jobs: 1}
		return m.run(t.Context(), listed)
	})
	for path, want := range map[string]os.FileMode{"/dst": 0o055, "/dst/p": 0o055, "/dst/p/q": 0o555} {
		if info, err := os.Stat(dir + path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", path, info, err, want)
		}
	}
	onThread(t, func() error {
		if err := asNobody(); err != nil {
			return err
		}
		removeTree(dir + "/dst")
		return nil
	})
	if exists(dir + "/dst") {
		t.Error("a folder that denies its owner to enter it is not removed")
	}
}

// A folder that may not be read is an error, and not left out.
func TestReadTreeDenied(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/sub", 0o700), os.WriteFile(dir+"/sub/x", nil, 0o644), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	reachable(t, dir)
	onThread(t, func() error {
		if err := asNobody(); err != nil {
			return err
		}
		if listed, err := readTree(dir); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("folder that may not be read: %d entries, %v, want ErrPermission", len(listed.entries), err)
		}
		return nil
	})
}

// Until a new folder has its mode nobody else sees what is in it.
func TestMirrorIsPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/src/sub", 0o755), os.WriteFile(dir+"/src/sub/x", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	listed, err := readTree(dir + "/src")
	if err != nil {
		t.Fatal(err)
	}
	m := mirror{
		src: dir + "/src", dst: dir + "/dst", jobs: 1,
		plan: func(rel string) (string, bool, error) { return rel, true, nil },
		convert: func(_ context.Context, src *os.File, e treeEntry, _ int) error {
			defer src.Close()
			for at := filepath.Dir(e.to); at != dir; at = filepath.Dir(at) {
				if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o700 {
					t.Errorf("while it is made %s has mode %v, %v, want 0700", at, info.Mode(), err)
				}
			}
			return os.WriteFile(e.to, nil, 0o600)
		},
	}
	if err := m.run(t.Context(), listed); err != nil {
		t.Fatal(err)
	}
}

// A hard link that can't be made is an error, and nothing of the folder remains.
func TestMirrorLink(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/src", 0o755), os.WriteFile(dir+"/src/x", nil, 0o644), os.Link(dir+"/src/x", dir+"/src/y")); err != nil {
		t.Fatal(err)
	}
	listed, err := readTree(dir + "/src")
	if err != nil {
		t.Fatal(err)
	}
	onThread(t, func() error {
		if err := refuse(unix.SYS_LINKAT, unix.EMLINK); err != nil {
			return err
		}
		m := mirror{
			src: dir + "/src", dst: dir + "/dst", jobs: 1,
			plan: func(rel string) (string, bool, error) { return rel, true, nil },
			convert: func(_ context.Context, src *os.File, e treeEntry, _ int) error {
				return errors.Join(src.Close(), os.WriteFile(e.to, nil, 0o600))
			},
		}
		if err := m.run(t.Context(), listed); !errors.Is(err, unix.EMLINK) {
			t.Errorf("a link can't be made: %v, want EMLINK", err)
		}
		return nil
	})
	if got := names(t, dir); !slices.Equal(got, []string{"src"}) {
		t.Errorf("there are %q, want src alone", got)
	}
}
