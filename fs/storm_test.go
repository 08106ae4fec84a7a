package fs_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"lazyfs/store"
)

// Whatever many programs do at once with the same few names, nothing fails in a way
// that a file system may not, the daemon lives, and all stores are sound afterwards.
// (Under the race detector the daemon runs under it, too.)
func TestStorm(t *testing.T) {
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: time.Millisecond})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i := range 2 {
		if err := os.Mkdir(d.path(fmt.Sprint("d", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	steps := 1500
	if testing.Short() {
		steps = 300
	}
	if os.Getenv("LAZYFS_LONG") != "" {
		steps = 50000
	}
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for range steps {
				what, err := stormStep(r, d)
				if err != nil && !mayHappen(err) {
					t.Errorf("%s: %v", what, err)
					return
				}
			}
		})
	}
	group.Wait()
	d.umount()
	err := filepath.WalkDir(back, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		s, err := store.Open(path, store.Options{})
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Check(t.Context(), func(d *store.DamageError) { t.Errorf("%s: %v", path, d) }, nil)
	})
	if err != nil {
		t.Error(err)
	}
}

// mayHappen tells whether err comes from what another program made of a name: EPERM
// is link(2)'s answer to a folder.
func mayHappen(err error) bool {
	for _, ok := range []error{syscall.ENOENT, syscall.EEXIST, syscall.ENOTEMPTY, syscall.ENOTDIR, syscall.EISDIR, syscall.EPERM} {
		if unwrap(err) == ok {
			return true
		}
	}
	return false
}

func unwrap(err error) error {
	for {
		switch e := err.(type) {
		case *os.PathError:
			err = e.Err
		case *os.LinkError:
			err = e.Err
		case *os.SyscallError:
			err = e.Err
		default:
			return err
		}
	}
}

// stormStep does one random thing and tells what it was.
func stormStep(r *rand.Rand, d *daemon) (string, error) {
	name := func() string { return d.path(fmt.Sprint("d", r.IntN(2)), fmt.Sprint("f", r.IntN(6))) }
	a, b := name(), name()
	switch r.IntN(14) {
	case 0, 1:
		return "write " + a, os.WriteFile(a, text(r.Uint64(), r.IntN(60_000)), 0o644)
	case 2:
		_, err := os.ReadFile(a)
		return "read " + a, err
	case 3:
		return "rename " + a + " " + b, os.Rename(a, b)
	case 4:
		return "link " + a + " " + b, os.Link(a, b)
	case 5:
		return "remove " + a, os.Remove(a)
	case 6:
		return "truncate " + a, os.Truncate(a, r.Int64N(80_000))
	case 7:
		return "chmod " + a, os.Chmod(a, os.FileMode(0o600+r.IntN(64)))
	case 8:
		_, err := os.ReadDir(filepath.Dir(a))
		return "list " + filepath.Dir(a), err
	case 9:
		return "mkdir " + a, os.Mkdir(a, 0o755)
	case 10:
		at := time.Unix(r.Int64N(1e9), 0)
		return "times " + a, os.Chtimes(a, at, at)
	case 11:
		return "rename folder", os.Rename(d.path("d0"), d.path("d0"))
	default:
		return "update " + a, update(r, a)
	}
}

// update changes a file in place and syncs it.
func update(r *rand.Rand, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(text(r.Uint64(), 1+r.IntN(9000)), r.Int64N(50_000)); err != nil {
		return err
	}
	if r.IntN(2) == 0 {
		return f.Sync()
	}
	_, err = f.Stat()
	return err
}
