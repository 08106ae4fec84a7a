package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A mirror makes a new folder with the tree of another: folders, symbolic
// links, hard links, special files, owners, modes and times are the same, and
// the regular files are made by convert.
type mirror struct {
	src, dst string
	jobs     int // files converted at the same time

	// plan gives the path that the regular file at rel has in the new tree, and
	// whether it is a store there or here, or is copied as it is.
	plan func(rel string) (to string, isStore bool, err error)
	// convert makes the new file e.to, which does not exist, from src, which it
	// closes. It may use jobs workers.
	convert func(ctx context.Context, src *os.File, e treeEntry, jobs int) error
}

// bigFile is the size from which a file is worth all workers, in bytes.
const bigFile = 8 << 20

// A treeEntry is one file of a tree.
type treeEntry struct {
	rel     string // path from the tree's root
	info    fs.FileInfo
	to      string // path of the new file
	isStore bool   // whether it is packed or unpacked
}

// A tree is the content of a folder, parents before children.
type tree struct {
	entries []treeEntry
	bytes   int64 // of all regular files
}

// readTree lists the folder at root without following symbolic links in it.
func readTree(root string) (tree, error) {
	var t tree
	// With a slash behind it a symbolic link is the folder it leads to.
	err := filepath.WalkDir(root+"/", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			t.bytes += info.Size()
		}
		t.entries = append(t.entries, treeEntry{rel: rel, info: info})
		return nil
	})
	return t, err
}

// run makes the folder under a temporary name and gives it its own when it is
// complete and durable; after an error nothing of it remains.
func (m *mirror) run(ctx context.Context, t tree) error {
	// With a slash behind it a name is that of a folder that exists.
	if dst := strings.TrimRight(m.dst, "/"); dst != "" {
		m.dst = dst
	}
	if err := m.checkTarget(); err != nil {
		return err
	}
	temp := tempName(m.dst)
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	defer removeTree(temp) // finds nothing once the folder has its own name
	// The mode that it gets may deny its owner to open it.
	root, err := os.Open(temp)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := m.fill(ctx, t.entries, temp); err != nil {
		return err
	}
	if err := syncTree(root); err != nil {
		return err
	}
	if err := renameNew(temp, m.dst); err != nil {
		return fmt.Errorf("%s: %w", m.dst, err)
	}
	return syncName(m.dst, root)
}

// checkTarget refuses a target that exists or lies in the source.
func (m *mirror) checkTarget() error {
	switch _, err := os.Lstat(m.dst); {
	case err == nil:
		return fmt.Errorf("%s: exists: a folder is never replaced", m.dst)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	src, err := filepath.EvalSymlinks(m.src)
	if err != nil {
		return err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(m.dst))
	if err != nil {
		return err
	}
	if src, err = filepath.Abs(src); err != nil {
		return err
	}
	if parent, err = filepath.Abs(parent); err != nil {
		return err
	}
	if parent == src || strings.HasPrefix(parent, strings.TrimSuffix(src, "/")+"/") {
		return fmt.Errorf("%s: lies in the folder %s itself", m.dst, m.src)
	}
	return nil
}

// fill makes the whole tree in the folder temp.
func (m *mirror) fill(ctx context.Context, entries []treeEntry, temp string) error {
	var files, links []treeEntry
	first := make(map[linkKey]string) // the new path of the first name of an inode
	taken := make(map[string]string)  // see place
	for i := range entries {
		e := &entries[i]
		if err := m.place(e, temp, taken); err != nil {
			return err
		}
		if !e.info.IsDir() {
			if _, known := first[e.linkKey()]; known {
				links = append(links, *e)
				continue
			}
			first[e.linkKey()] = e.to
		}
		if e.info.Mode().IsRegular() {
			files = append(files, *e)
		} else if err := m.makeOther(*e); err != nil {
			return fmt.Errorf("%s: %w", e.rel, err)
		}
	}
	if err := m.convertAll(ctx, files); err != nil {
		return err
	}
	for _, e := range links {
		if err := os.Link(first[e.linkKey()], e.to); err != nil {
			return err
		}
	}
	return keepFolders(entries)
}

// place decides what e becomes in the folder temp, where taken has what is to be at
// each path.
func (m *mirror) place(e *treeEntry, temp string, taken map[string]string) (err error) {
	to := e.rel
	if e.info.Mode().IsRegular() {
		if to, e.isStore, err = m.plan(e.rel); err != nil {
			return err
		}
	}
	if other, ok := taken[to]; ok {
		return fmt.Errorf("%s: would be %s in the new folder, as would %s", e.rel, to, other)
	}
	taken[to] = e.rel
	e.to = filepath.Join(temp, to)
	return nil
}

// keepFolders gives the new folders their modes and times, which making files in them
// has changed. Children come first: a folder's mode may forbid to enter it.
func keepFolders(entries []treeEntry) error {
	for _, e := range slices.Backward(entries) {
		if e.info.IsDir() {
			if err := keepMeta(e.to, e.info); err != nil {
				return fmt.Errorf("%s: %w", e.rel, err)
			}
		}
	}
	return nil
}

// makeOther makes what is not a regular file. A folder gets its mode and times
// later.
func (m *mirror) makeOther(e treeEntry) error {
	stat := e.info.Sys().(*syscall.Stat_t)
	switch {
	case e.rel == ".":
		return nil
	case e.info.IsDir():
		return os.Mkdir(e.to, 0o700)
	case e.info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(filepath.Join(m.src, e.rel))
		if err != nil {
			return err
		}
		if err := os.Symlink(to, e.to); err != nil {
			return err
		}
		return keepLinkMeta(e.to, e.info)
	}
	if err := unix.Mknod(e.to, stat.Mode, int(stat.Rdev)); err != nil {
		return fmt.Errorf("make special file: %w", err)
	}
	return keepMeta(e.to, e.info)
}

// convertAll converts big files one by one with all workers, and then the
// others side by side.
func (m *mirror) convertAll(ctx context.Context, files []treeEntry) error {
	for _, e := range files {
		if e.info.Size() >= bigFile {
			if err := m.convertOne(ctx, e, m.jobs); err != nil {
				return err
			}
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(m.jobs)
	for _, e := range files {
		if e.info.Size() < bigFile {
			g.Go(func() error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return m.convertOne(ctx, e, 1)
			})
		}
	}
	return g.Wait()
}

// convertOne makes the new file of e with its mode and times.
func (m *mirror) convertOne(ctx context.Context, e treeEntry, jobs int) error {
	src, err := m.open(&e)
	if err != nil {
		return err
	}
	if err := m.convert(ctx, src, e, jobs); err != nil {
		return err
	}
	if err := keepMeta(e.to, e.info); err != nil {
		return fmt.Errorf("%s: %w", e.rel, err)
	}
	return nil
}

// open opens the regular file e. Since it was listed another may have taken its name,
// whose owner, mode and times go with its content.
func (m *mirror) open(e *treeEntry) (*os.File, error) {
	path := filepath.Join(m.src, e.rel)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0) // as openNow
	if err != nil {
		return nil, err
	}
	if e.info, err = f.Stat(); err == nil && !e.info.Mode().IsRegular() {
		err = fmt.Errorf("%s: is no regular file any more", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// A linkKey is what the names of one new file have in common. Two names of one
// inode may show it in two ways: as a store, and unpacked.
type linkKey struct {
	dev, ino uint64
	isStore  bool
}

func (e treeEntry) linkKey() linkKey {
	stat := e.info.Sys().(*syscall.Stat_t)
	return linkKey{stat.Dev, stat.Ino, e.isStore}
}

// removeTree removes a tree whose folders may deny writing.
func removeTree(root string) {
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return err
	})
	_ = os.RemoveAll(root)
}
