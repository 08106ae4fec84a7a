package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// A flipped byte in one frame fails reads of that frame with EIO and no others, and
// is logged once.
func TestDamagedFrame(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "f.lazy")
	content := text(1, 1<<20)
	pack(t, path, content)
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const bad = 17
	info, err := s.FrameInfo(bad)
	s.Close()
	if err != nil {
		t.Fatal(err)
	}
	flip(t, path, info.Off+info.Stored/2)
	for _, mode := range []struct {
		name     string
		writable bool
	}{{"ro", false}, {"rw", true}} {
		t.Run(mode.name, func(t *testing.T) {
			d := start(t, mountSpec{Source: back, Writable: mode.writable})
			f, err := os.Open(d.path("f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			page := make([]byte, store.PageSize)
			for round := range 2 {
				for off := int64(0); off < int64(len(content)); off += store.PageSize {
					_, err := f.ReadAt(page, off)
					if off/store.DefaultFrameSize == bad {
						if !errors.Is(err, syscall.EIO) {
							t.Errorf("round %d: page at %#x of the damaged frame: %v, want %v", round, off, err, syscall.EIO)
						}
					} else if err != nil || !bytes.Equal(page, content[off:off+store.PageSize]) {
						t.Errorf("round %d: page at %#x: %v", round, off, err)
					}
				}
			}
			f.Close()
			d.umount()
			if log := d.log.String(); strings.Count(log, "frame 17") != 1 || !strings.Contains(log, "f.lazy") {
				t.Errorf("log should name file and frame once:\n%s", log)
			}
		})
	}
}

func flip(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

// A store whose superblocks are damaged can be listed and removed, and opening it
// fails with EIO.
func TestDamagedStore(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "f.lazy")
	pack(t, path, text(1, 100_000))
	flip(t, path, 100)
	flip(t, path, 2048+100)
	d := mountRW(t, back)
	if got := names(t, d.dir); len(got) != 1 || got[0] != "f" {
		t.Errorf("folder shows %q, want f", got)
	}
	if _, err := os.ReadFile(d.path("f")); !errors.Is(err, syscall.EIO) {
		t.Errorf("open: %v, want %v", err, syscall.EIO)
	}
	if err := os.Remove(d.path("f")); err != nil {
		t.Error(err)
	}
}

// A store file that is cut short, overwritten or replaced while it is open gives
// the old content or an error, and the daemon serves on.
func TestStoreChangedUnderneath(t *testing.T) {
	for _, change := range []struct {
		name string
		do   func(path string) error
	}{
		{"truncate", func(p string) error { return os.Truncate(p, 5000) }},
		{"truncate to nothing", func(p string) error { return os.Truncate(p, 0) }},
		{"overwrite", func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte{7}, 300_000), 0o644) }},
		{"remove", os.Remove},
		{"replace by folder", func(p string) error { os.Remove(p); return os.Mkdir(p, 0o755) }},
	} {
		t.Run(change.name, func(t *testing.T) {
			back := t.TempDir()
			path := filepath.Join(back, "f.lazy")
			content := text(1, 400_000)
			pack(t, path, content)
			write(t, filepath.Join(back, "other"), []byte("other"))
			d := mountRW(t, back)
			f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := change.do(path); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(content))
			if n, err := f.ReadAt(got, 0); (err == nil || err == io.EOF) && !bytes.Equal(got[:n], content[:n]) {
				t.Error("wrong data read")
			}
			f.WriteAt(text(2, 10_000), 100_000)
			f.Sync()
			f.Close()
			os.ReadFile(d.path("f"))
			os.Stat(d.path("f"))
			same(t, d.path("other"), []byte("other"))
			select {
			case err := <-d.done:
				t.Fatalf("the daemon has ended: %v", err)
			default:
			}
		})
	}
}

// A store that another takes the place of stays what it was for who has it open,
// writes included, which are lost with it. Who opens it from then on gets the other.
func TestStoreReplaced(t *testing.T) {
	for _, writable := range []bool{false, true} {
		t.Run(fmt.Sprintf("writable=%v", writable), func(t *testing.T) {
			back := t.TempDir()
			path := filepath.Join(back, "f.lazy")
			old, now := text(1, 200_000), text(2, 300_000)
			pack(t, path, old)
			pack(t, filepath.Join(back, "new.lazy"), now)
			d := start(t, mountSpec{Source: back, Writable: writable})
			flags := os.O_RDONLY
			if writable {
				flags = os.O_RDWR
			}
			f, err := os.OpenFile(d.path("f"), flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := os.Rename(filepath.Join(back, "new.lazy"), path); err != nil {
				t.Fatal(err)
			}
			if writable {
				if _, err := f.WriteAt([]byte("written"), 5000); err != nil {
					t.Error(err)
				}
				copy(old[5000:], "written")
				if err := f.Sync(); err != nil {
					t.Error(err)
				}
			}
			got := make([]byte, len(old))
			if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, old) {
				t.Errorf("who has it open reads something else at %#x, %v", firstDiff(got, old), err)
			}
			until(t, "the other store is seen", func() bool {
				got, err := os.ReadFile(d.path("f"))
				return err == nil && bytes.Equal(got, now)
			})
			f.Close()
			same(t, d.path("f"), now)
			d.umount()
			if got := unpack(t, path); !bytes.Equal(got, now) {
				t.Error("the other store was written to")
			}
			if d.log.String() != "" {
				t.Errorf("the daemon says %q", d.log)
			}
		})
	}
}

// What takes the place of the store of a mount that shows one, and is none, is not shown
// for its content.
func TestSingleReplaced(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	write(t, other, []byte("something else"))
	for _, change := range []struct {
		name string
		do   func(path string) error
	}{
		{"overwritten", func(p string) error { return os.WriteFile(p, []byte("something else"), 0o644) }},
		{"another file", func(p string) error { return errors.Join(os.Remove(p), os.Link(other, p)) }},
		{"a symbolic link", func(p string) error { return errors.Join(os.Remove(p), os.Symlink(other, p)) }},
		{"a folder", func(p string) error { return errors.Join(os.Remove(p), os.MkdirAll(filepath.Join(p, "in"), 0o755)) }},
	} {
		path := filepath.Join(t.TempDir(), "f.lazy")
		pack(t, path, text(1, 50_000))
		d := mountRW(t, path)
		same(t, d.path("f"), text(1, 50_000))
		until(t, "the store is closed", func() bool { return d.counters().Files == 0 })
		if err := change.do(path); err != nil {
			t.Fatal(err)
		}
		names(t, d.dir) // With the names the kernel gets what they show.
		if got, err := os.ReadFile(d.path("f")); err == nil {
			t.Errorf("%s: %q is read", change.name, got)
		}
		if list, err := os.ReadDir(d.path("f")); err == nil {
			t.Errorf("%s: it shows %v", change.name, list)
		}
	}
}

// While a file is held open on a read-only mount it stays as it is, whatever a
// writer commits. The first open after that sees the newest.
func TestGenerations(t *testing.T) {
	for _, size := range []int{200_000, 10_000, 100} {
		back := t.TempDir()
		path := filepath.Join(back, "f.lazy")
		old := text(1, size)
		pack(t, path, old)
		d := mountRO(t, back)
		f, err := os.Open(d.path("f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		half := make([]byte, size/2)
		if _, err := f.ReadAt(half, 0); err != nil {
			t.Fatal(err)
		}
		var now []byte
		s, err := store.Open(path, store.Options{Writable: true})
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(4) { // Space that one gives up a later one takes.
			now = text(2+i, size*5/4)
			if _, err := s.WriteAt(now, 0); err != nil {
				t.Fatal(err)
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		same(t, d.path("f"), old)
		got := make([]byte, len(old))
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, old) {
			t.Errorf("%d bytes, held open: %v, differs at %#x", size, err, firstDiff(got, old))
		}
		direct, err := os.OpenFile(d.path("f"), os.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			t.Fatal(err)
		}
		clear(got)
		if _, err := direct.ReadAt(got, 0); err != nil || !bytes.Equal(got, old) {
			t.Errorf("%d bytes, held open, past the kernel's pages: %v, differs at %#x", size, err, firstDiff(got, old))
		}
		direct.Close()
		f.Close()
		until(t, "the newest generation is seen", func() bool {
			got, err := os.ReadFile(d.path("f"))
			return err == nil && bytes.Equal(got, now)
		})
		d.umount()
	}
}
