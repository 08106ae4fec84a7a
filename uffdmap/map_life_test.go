package uffdmap

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// All mappings of a program share one pager and one standby, and nothing of them
// is left after the last Close.
func TestMapLeavesNothing(t *testing.T) {
	data := content(1<<20, 8)
	path := pack(t, data, store.CreateOptions{})
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	var all []*Mapping
	for range 5 {
		m := mustMap(t, path, Options{})
		if !bytes.Equal(m.Bytes(), data) {
			t.Error("mapping differs from what was packed")
		}
		all = append(all, m)
	}
	eventually(t, "one pager and one standby", func() bool {
		h := helpers(os.Getpid())
		return len(h) == 2 && helper(os.Getpid(), rolePager) != 0 && helper(os.Getpid(), roleStandby) != 0
	})
	for _, m := range all {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := errors.Join(m.Close()); !errors.Is(err, os.ErrClosed) {
			t.Errorf("second Close: %v, want os.ErrClosed", err)
		}
		if err := m.Sync(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Sync after Close: %v, want os.ErrClosed", err)
		}
	}
	if h := helpers(os.Getpid()); len(h) > 0 {
		t.Errorf("helpers %v are left", h)
	}
	if after := descriptors(t); !maps.Equal(before, after) {
		t.Errorf("descriptors are %v, were %v", after, before)
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
	pieces, err := os.ReadFile("/proc/self/maps")
	must(t, "read /proc/self/maps", err)
	if bytes.Contains(pieces, []byte("memfd:lazyfs")) {
		t.Errorf("memory is left:\n%s", pieces)
	}
}

// Close does not wait for a child that the program made while it started its pager, and
// that has a copy of the pager's end of the connection.
func TestMapCloseBesideCopy(t *testing.T) {
	m := mustMap(t, pack(t, content(1<<20, 8), store.CreateOptions{}), Options{})
	pager, err := living(rolePager)
	must(t, "find the pager", err)
	pidfd, err := unix.PidfdOpen(pager, 0)
	must(t, "open a pidfd", err)
	defer unix.Close(pidfd)
	end, err := unix.PidfdGetfd(pidfd, fdProgram, 0)
	must(t, "copy a descriptor", err)
	defer unix.Close(end)
	closed := make(chan error, 1)
	go func() { closed <- m.Close() }()
	select {
	case err := <-closed:
		must(t, "close", err)
	case <-time.After(tooLong):
		t.Fatal("close waits for the copy")
	}
	if h := helpers(os.Getpid()); len(h) > 0 {
		t.Errorf("helpers %v are left", h)
	}
}

// Bytes may be called beside Close, and gives nothing after it.
func TestMapBytesBesideClose(t *testing.T) {
	m := mustMap(t, pack(t, content(1<<20, 1), store.CreateOptions{}), Options{})
	var all sync.WaitGroup
	all.Go(func() {
		for m.Bytes() != nil {
		}
	})
	must(t, "close", m.Close())
	all.Wait()
	if b := m.Bytes(); b != nil {
		t.Errorf("%d bytes after Close, want none", len(b))
	}
}

// Map says what is wrong, and leaves nothing behind then.
func TestMapErrors(t *testing.T) {
	path := pack(t, content(100, 9), store.CreateOptions{})
	foreign := t.TempDir() + "/foreign.lazy"
	if err := os.WriteFile(foreign, bytes.Repeat([]byte("no store "), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	for _, c := range []struct {
		path string
		o    Options
		want error
	}{
		{path + ".absent", Options{}, os.ErrNotExist},
		{foreign, Options{}, store.ErrNotStore},
		{foreign, Options{Writable: true}, store.ErrNotStore},
		{t.TempDir(), Options{Writable: true, Pages: "tmp%d.gz"}, ErrReadOnly},
		{path, Options{MemoryLimit: -1}, unix.EINVAL},
	} {
		m, err := Map(c.path, c.o)
		if !errors.Is(err, c.want) {
			t.Errorf("map %s, %+v: %v, want %v", c.path, c.o, err, c.want)
		}
		if m != nil {
			m.Close()
		}
	}
	if after := descriptors(t); !maps.Equal(before, after) {
		t.Errorf("descriptors are %v, were %v", after, before)
	}
	if h := helpers(os.Getpid()); len(h) > 0 {
		t.Errorf("helpers %v are left", h)
	}
}

// A kernel that lacks a feature gives ErrUnsupported and the feature's name. A
// read-only mapping does not need what only writing needs.
func TestMapMaskedFeatures(t *testing.T) {
	data := content(100_000, 10)
	path := pack(t, data, store.CreateOptions{})
	for _, c := range []struct {
		feature string
		o       Options
		want    error
	}{
		{"poison", Options{}, ErrUnsupported},
		{"missing_shmem", Options{}, ErrUnsupported},
		{"wp_hugetlbfs_shmem", Options{Writable: true}, ErrUnsupported},
		{"wp_hugetlbfs_shmem", Options{}, nil},
		{"wp_async", Options{Writable: true}, nil},
		{"dev,syscall,usermode", Options{}, ErrPrivilege},
		{"dev,syscall", Options{Private: true}, nil},
	} {
		t.Setenv(uffd.MaskEnv, c.feature)
		m, err := Map(path, c.o)
		if !errors.Is(err, c.want) {
			t.Errorf("without %s, %+v: %v, want %v", c.feature, c.o, err, c.want)
		}
		if c.want == ErrUnsupported && !bytes.Contains([]byte(err.Error()), []byte(c.feature)) {
			t.Errorf("without %s: %v does not name it", c.feature, err)
		}
		if err != nil {
			continue
		}
		if !bytes.Equal(m.Bytes(), data) {
			t.Errorf("without %s: mapping differs from what was packed", c.feature)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A store that is mapped writable can't be opened for writing by anyone else, and
// the error names the program that holds it, also after its pager was replaced.
func TestMapLocks(t *testing.T) {
	path := pack(t, content(1<<20, 11), store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	holder := []byte(strconv.Itoa(os.Getpid()))
	check := func(when string) {
		t.Helper()
		s, err := store.Open(path, store.Options{Writable: true})
		if !errors.Is(err, ErrLocked) || !bytes.Contains([]byte(err.Error()), holder) {
			t.Errorf("%s: open for writing: %v, want ErrLocked with pid %s", when, err, holder)
		}
		if err == nil {
			s.Close()
		}
		_, err = Map(path, Options{Writable: true})
		if !errors.Is(err, ErrLocked) || !bytes.Contains([]byte(err.Error()), holder) {
			t.Errorf("%s: map for writing: %v, want ErrLocked with pid %s", when, err, holder)
		}
	}
	check("mapped")
	must(t, "kill", killPager())
	eventually(t, "a new standby", func() bool { return helper(os.Getpid(), roleStandby) != 0 })
	check("pager replaced")
	r := mustMap(t, path, Options{})
	m.Bytes()[0]++
	want := m.Bytes()[0] - 1
	copied, err := duplicate(m.fds[fdSource], path) // As a child has between fork and exec.
	must(t, "dup", err)
	defer copied.Close()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if r.Bytes()[0] != want {
		t.Errorf("a reader sees %#x, want %#x as when it was mapped", r.Bytes()[0], want)
	}
	s, err := store.Open(path, store.Options{Writable: true})
	if err != nil {
		t.Fatalf("open for writing after Close: %v", err)
	}
	s.Close()
}

// A Map that fails leaves the store's lock to nobody, although the program makes
// children meanwhile, which have copies of its descriptors until they begin.
func TestMapFailsUnlocked(t *testing.T) {
	held := mustMap(t, pack(t, content(1<<20, 18), store.CreateOptions{}), Options{}) // keeps the helpers
	defer held.Close()
	path := filepath.Join(t.TempDir(), "zeros.lazy")
	must(t, "write", os.WriteFile(path, make([]byte, 8192), 0o600))
	var done atomic.Bool
	var all sync.WaitGroup
	defer all.Wait()
	defer done.Store(true)
	for range 2 {
		all.Go(func() {
			for !done.Load() {
				exec.Command("true").Run()
			}
		})
	}
	for range 300 {
		if _, err := Map(path, Options{Writable: true}); !errors.Is(err, store.ErrNotStore) {
			t.Fatalf("map: %v, want that it is no store", err)
		}
	}
}

// When another program has written a store that is mapped read-only, and then the
// pager dies, its successor can't read the generation that was mapped: absent
// pages are a SIGBUS, and never bytes of another generation.
func TestMapGenerationIsGone(t *testing.T) {
	data := content(1<<20, 17)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{})
	if m.Bytes()[0] != data[0] {
		t.Fatal("first byte is wrong")
	}
	w := mustMap(t, path, Options{Writable: true})
	w.Bytes()[600_000]++
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	must(t, "kill", killPager())
	eventually(t, "a new pager", func() bool { return m.Stats().Takeovers == 1 })
	if v, fault := peek(m.Bytes(), 600_000); fault == 0 {
		t.Errorf("byte is %#x, of another generation; want a fault", v)
	}
	if m.Bytes()[1] != data[1] {
		t.Error("a resident byte has changed")
	}
	if err := m.Prefetch(Range{600_000, 1}); err == nil {
		t.Error("prefetch of an absent page: no error")
	}
	if w.Bytes()[600_000] != data[600_000]+1 {
		t.Error("the writer's byte is wrong")
	}
}

func init() { bodies["compare"] = compareBody }

// compareBody maps a store and compares it with a file.
func compareBody(args []string) error {
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	fmt.Println("mapped")
	var b [1]byte
	os.Stdin.Read(b[:])
	if !bytes.Equal(m.Bytes(), data) {
		return errors.New("mapping differs from the file")
	}
	return m.Close()
}

// Several programs map one store read-only at once.
func TestMapManyPrograms(t *testing.T) {
	data := content(4<<20, 12)
	path := pack(t, data, store.CreateOptions{})
	plain := t.TempDir() + "/plain"
	if err := os.WriteFile(plain, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	for range 4 {
		c := command("compare", path, plain)
		c.Stdin = hold
		all.Go(func() {
			if out, err := output(c, tooLong); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	release.Close()
	all.Wait()
}

// Starting a program while a store is mapped disturbs neither.
func TestMapExec(t *testing.T) {
	data := content(8<<20, 14)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{})
	var all sync.WaitGroup
	all.Go(func() {
		for range 20 {
			if err := exec.Command("/bin/true").Run(); err != nil {
				t.Errorf("/bin/true: %v", err)
			}
		}
	})
	if !bytes.Equal(m.Bytes(), data) {
		t.Error("mapping differs from what was packed")
	}
	all.Wait()
}
