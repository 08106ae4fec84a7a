package uffdmap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// failingEnv names a file: while it exists pagers can read no frame.
const failingEnv = "LAZYFS_TEST_FAILING"

type failingSource struct {
	store.Source
	file string
}

func (s failingSource) ReadFrame(n int64, dst []byte) (bool, error) {
	if _, err := os.Stat(s.file); err == nil {
		return false, &os.PathError{Op: "read", Path: s.file, Err: unix.EIO}
	}
	return s.Source.ReadFrame(n, dst)
}

// While the disk of a store fails, absent pages are a SIGBUS and an error from
// Prefetch, and resident ones as good as ever. When it works again so does
// everything; a page that was touched meanwhile comes back by Prefetch.
func TestMapDiskFails(t *testing.T) {
	const frame = 16 << 10
	failing := filepath.Join(t.TempDir(), "failing")
	t.Setenv(failingEnv, failing)
	data := content(1<<20, 50)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	b := m.Bytes()
	write := func(n int) {
		t.Helper()
		data[n*frame]++
		b[n*frame] = data[n*frame]
	}
	write(0)
	must(t, "fail", os.WriteFile(failing, nil, 0o600))
	write(0)
	if err := m.Prefetch(Range{5 * frame, 1}); !errors.Is(err, unix.EIO) {
		t.Errorf("prefetch: %v, want EIO", err)
	}
	if v, fault := peek(b, 6*frame); fault == 0 {
		t.Errorf("touch gives %#x, want a fault", v)
	}
	must(t, "sync of a resident frame", m.Sync())
	must(t, "work", os.Remove(failing))
	for _, n := range []int{5, 7} {
		if v, fault := peek(b, n*frame); fault != 0 || v != data[n*frame] {
			t.Errorf("frame %d when the disk works again: %#x, fault at %#x", n, v, fault)
		}
	}
	must(t, "prefetch", m.Prefetch(Range{6 * frame, 1}))
	if v, fault := peek(b, 6*frame); fault != 0 || v != data[6*frame] {
		t.Errorf("frame 6 after Prefetch: %#x, fault at %#x", v, fault)
	}
	write(6)
	same(t, "mapping", b, data)
	if got := m.Stats().Takeovers; got != 0 {
		t.Errorf("%d pagers died", got)
	}
	must(t, "close", m.Close())
	same(t, "store", unpack(t, path), data)
}

// A Close that can't sync leaves the store as at the last Sync, whatever it has handed over
// by then.
func TestMapCloseFails(t *testing.T) {
	const frame = store.MaxFrameSize
	failing := filepath.Join(t.TempDir(), "failing")
	t.Setenv(failingEnv, failing)
	data := content(4*frame, 76)
	path := pack(t, data, store.CreateOptions{FrameSize: frame})
	m := mustMap(t, path, Options{Writable: true})
	for n := range 4 {
		m.Bytes()[n*frame]++
	}
	must(t, "fail", os.WriteFile(failing, nil, 0o600))
	must(t, "punch out a page", unix.Madvise(m.mem[len(data)-pageSize:], unix.MADV_REMOVE))
	if err := m.Close(); !errors.Is(err, unix.EIO) {
		t.Errorf("close: %v, want EIO", err)
	}
	same(t, "store", unpack(t, path), data)
}

// A store that is replaced while it is mapped is still the old one, for a second
// pager too.
func TestReplacedStore(t *testing.T) {
	data := content(1<<20, 51)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{})
	v := openView(t, path, Options{})
	_ = m.Bytes()[0]
	must(t, "replace", os.Rename(pack(t, content(1<<20, 52), store.CreateOptions{}), path))
	same(t, "first half", m.Bytes()[:1<<19], data[:1<<19])
	must(t, "kill", killPager())
	same(t, "mapping", m.Bytes(), data)
	s, err := v.View(0, v.Size())
	must(t, "view", err)
	same(t, "view", s.Bytes(), data)
	s.Release()
}

// A store that somebody cuts while it is mapped is damaged: what was read is still
// there, the rest is a SIGBUS and an error, and no pager dies of it.
func TestTruncatedStore(t *testing.T) {
	for _, o := range []Options{{}, {Private: true, MemoryLimit: 512 << 10}} {
		for _, size := range []int64{0, 300_000} {
			data := content(1<<20, 53)
			path := pack(t, data, store.CreateOptions{})
			m := mustMap(t, path, o)
			v := openView(t, path, o)
			same(t, "first bytes", m.Bytes()[:1000], data[:1000])
			must(t, "truncate", os.Truncate(path, size))
			same(t, "first bytes", m.Bytes()[:1000], data[:1000])
			for at := 0; at < len(data); at += 10_000 {
				if b, fault := peek(m.Bytes(), at); fault == 0 && b != data[at] {
					t.Errorf("byte %#x is %#x, want %#x or a fault", at, b, data[at])
				}
				var b [1]byte
				if _, err := v.ReadAt(b[:], int64(at)); err == nil && b[0] != data[at] {
					t.Errorf("byte %#x of the view is %#x, want %#x or an error", at, b, data[at])
				}
			}
			last := Range{m.Size() - 1, 1}
			if err := m.Prefetch(last); !errors.Is(err, ErrDamaged) {
				t.Errorf("prefetch behind the cut: %v, want ErrDamaged", err)
			}
			if err := v.Prefetch(last); !errors.Is(err, ErrDamaged) {
				t.Errorf("prefetch of a view behind the cut: %v, want ErrDamaged", err)
			}
			if got := m.Stats().Takeovers; got != 0 {
				t.Errorf("%d pagers died", got)
			}
			must(t, "close", m.Close())
			must(t, "close", v.Close())
		}
	}
}

// A program that has all of its store in memory, and has written it, stores it again
// whole when somebody has cut it.
func TestTruncatedWritable(t *testing.T) {
	data := content(1<<20, 54)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	same(t, "mapping", m.Bytes(), data)
	must(t, "truncate", os.Truncate(path, 100_000))
	for at := 0; at < len(data); at += 4096 {
		data[at]++
		m.Bytes()[at] = data[at]
	}
	must(t, "sync", m.Sync())
	same(t, "mapping", m.Bytes(), data)
	must(t, "close", m.Close())
	same(t, "store", unpack(t, path), data)
}

// What a mapping spills lies beside the store, also where a link leads there.
func TestSpillBesideStore(t *testing.T) {
	path := pack(t, content(1<<20, 50), store.CreateOptions{})
	link := filepath.Join(t.TempDir(), "link.lazy")
	must(t, "link", os.Symlink(path, link))
	m := mustMap(t, link, Options{Writable: true, MemoryLimit: 1})
	spill, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", m.fds[fdSpill]))
	must(t, "read link", err)
	want, err := filepath.EvalSymlinks(filepath.Dir(path))
	must(t, "resolve folder", err)
	if got := filepath.Dir(spill); got != want {
		t.Errorf("the spill file is in %s, want %s", got, want)
	}
}

// Where no folder takes a spill file one line says why none of them does.
func TestSpillNowhere(t *testing.T) {
	path := pack(t, content(1<<20, 60), store.CreateOptions{})
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, "open", err)
	defer f.Close()
	must(t, "remove its folder", os.RemoveAll(filepath.Dir(path)))
	t.Setenv("TMPDIR", "/nonexistent")
	_, err = Map(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), Options{Writable: true, MemoryLimit: 1 << 20})
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("map: %v, want that the folders do not exist", err)
	}
	text := err.Error()
	if strings.Contains(text, "\n") || !strings.Contains(text, filepath.Dir(path)) || !strings.Contains(text, "/nonexistent") {
		t.Errorf("map: %q, want a line that names both folders", text)
	}
}
