package uffdmap

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// peek reads a byte, and gives the address of the fault that a SIGBUS tells.
func peek(b []byte, at int) (v byte, fault uintptr) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			fault = r.(interface{ Addr() uintptr }).Addr()
		}
	}()
	return b[at], 0
}

// flipByte flips a byte inside frame n of the store.
func flipByte(t *testing.T, path string, n int64) {
	t.Helper()
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.FrameInfo(n)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	at := info.Off + info.Stored/2
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// A damaged frame is a SIGBUS with the address touched, every time, and an error
// from Prefetch; all other frames are as good as ever, and writes to them reach
// the store.
func TestMapDamagedFrame(t *testing.T) {
	data := content(1<<20, 7)
	path := pack(t, data, store.CreateOptions{})
	flipByte(t, path, 9)
	m := mustMap(t, path, Options{Writable: true})
	b := m.Bytes()
	for range 3 {
		at := 9*16<<10 + 4096 + 3
		_, fault := peek(b, at)
		if want := uintptr(unsafe.Pointer(&b[at])); fault != want {
			t.Errorf("touch of a damaged frame: fault at %#x, want %#x", fault, want)
		}
	}
	if err := m.Prefetch(Range{9 * 16 << 10, 1}); !errors.Is(err, ErrDamaged) {
		t.Errorf("prefetch of a damaged frame: %v, want ErrDamaged", err)
	}
	var d *store.DamageError
	if err := m.Prefetch(Range{0, m.Size()}); !errors.As(err, &d) || d.Path != path {
		t.Errorf("prefetch of a damaged frame: %v, want a DamageError with the path", err)
	}
	for n := range len(data) / (16 << 10) {
		at := n * 16 << 10
		if n == 9 {
			continue
		}
		if v, fault := peek(b, at); fault != 0 || v != data[at] {
			t.Fatalf("frame %d beside the damaged one: %#x, fault at %#x", n, v, fault)
		}
		b[at]++
		data[at]++
	}
	if err := m.Sync(); err != nil {
		t.Errorf("sync beside a damaged frame: %v", err)
	}
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range int64(len(data) / (16 << 10)) {
		got := make([]byte, 16<<10)
		zero, err := s.ReadFrame(n, got)
		if zero {
			clear(got)
		}
		if (err != nil) != (n == 9) || err == nil && !bytes.Equal(got, data[n<<14:(n+1)<<14]) {
			t.Errorf("frame %d after sync: %v", n, err)
		}
	}
}

// A store without room: Sync says ENOSPC, everything stays dirty and readable,
// and once there is room the next Sync stores it.
func TestMapNoSpace(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	data := make([]byte, 8<<20)
	path := dir + "/test.lazy"
	if err := packTo(path, data, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	m := mustMap(t, path, Options{Writable: true})
	rand.NewChaCha8([32]byte{1}).Read(data)
	copy(m.Bytes(), data)
	for range 2 {
		if err := m.Sync(); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("sync of 8 MiB to a disk of 4 MiB: %v, want ENOSPC", err)
		}
		if got := slices.Collect(m.Dirty()); !slices.Equal(got, wholeRange(len(data))) {
			t.Fatalf("dirty is %v after a failed Sync, want everything", got)
		}
		if !bytes.Equal(m.Bytes(), data) {
			t.Fatal("memory has changed after a failed Sync")
		}
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	if err := m.Sync(); err != nil {
		t.Fatalf("sync with room: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(unpack(t, path), data) {
		t.Error("store differs from what was written")
	}
}

// A memory limit holds beside random reads and writes, which lose nothing.
func TestMapMemoryLimit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const limit = 2 << 20
	for _, o := range []Options{{MemoryLimit: limit}, {MemoryLimit: limit, Writable: true}, {MemoryLimit: limit, Private: true}} {
		data := content(16<<20, 16)
		path := pack(t, data, store.CreateOptions{})
		m := mustMap(t, path, o)
		r := rand.New(rand.NewPCG(seed, 1))
		peak := int64(0)
		for i := range 5_000 {
			at := r.IntN(len(data))
			if m.Bytes()[at] != data[at] {
				t.Fatalf("%+v: byte %#x is %#x, want %#x", o, at, m.Bytes()[at], data[at])
			}
			if o.Writable || o.Private {
				data[at]++
				m.Bytes()[at] = data[at]
			}
			if i%100 == 0 {
				peak = max(peak, m.Stats().Resident)
			}
			if o.Writable && i%1250 == 1249 {
				if err := m.Sync(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if peak > limit+maxWindow {
			t.Errorf("%+v: %d bytes were resident, want at most %d", o, peak, limit)
		}
		if !bytes.Equal(m.Bytes(), data) {
			t.Errorf("%+v: memory differs from what was written", o)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if o.Writable && !bytes.Equal(unpack(t, path), data) {
			t.Errorf("%+v: store differs from what was written", o)
		}
	}
}

// writePages writes data as a folder of gzip files of one page each, without the
// pages that are zeros.
func writePages(t *testing.T, data []byte) (folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "pages")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for n := 0; n*pageSize < len(data); n++ {
		page := data[n*pageSize : min((n+1)*pageSize, len(data))]
		if len(bytes.Trim(page, "\x00")) == 0 {
			continue
		}
		var file bytes.Buffer
		z := gzip.NewWriter(&file)
		z.Write(page)
		z.Close()
		if err := os.WriteFile(fmt.Sprintf("%s/tmp%d.gz", folder, n), file.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// A folder of page files is mapped like a store: absent files are zeros, a damaged
// one is a SIGBUS, and the folder may get another name.
func TestMapPages(t *testing.T) {
	data := content(40*pageSize+100, 18)
	clear(data[7*pageSize : 9*pageSize])
	folder := writePages(t, data)
	if err := os.Truncate(folder+"/tmp30.gz", 1000); err != nil {
		t.Fatal(err)
	}
	m := mustMap(t, folder, Options{Private: true, Pages: "tmp%d.gz"})
	if !bytes.Equal(m.Bytes()[:20*pageSize], data[:20*pageSize]) {
		t.Error("mapping differs from the pages")
	}
	m.Bytes()[3] = 0x42
	if err := os.Rename(folder, folder+".new"); err != nil {
		t.Fatal(err)
	}
	must(t, "kill", killPager())
	if !bytes.Equal(m.Bytes()[20*pageSize:30*pageSize], data[20*pageSize:30*pageSize]) {
		t.Error("mapping differs from the pages after a change of pagers")
	}
	if _, fault := peek(m.Bytes(), 30*pageSize+5); fault == 0 {
		t.Error("a damaged page file: no fault")
	}
	if err := m.Prefetch(Range{30 * pageSize, 1}); !errors.Is(err, ErrDamaged) {
		t.Errorf("prefetch of a damaged page file: %v, want ErrDamaged", err)
	}
	if !bytes.Equal(m.Bytes()[31*pageSize:], data[31*pageSize:]) || m.Bytes()[3] != 0x42 {
		t.Error("mapping differs from the pages and what was written")
	}
}

// Names of page files may be any bytes, for a second pager too.
func TestMapPagesNames(t *testing.T) {
	data := content(4*pageSize, 19)
	folder := writePages(t, data)
	for n := range 4 {
		must(t, "rename", os.Rename(fmt.Sprintf("%s/tmp%d.gz", folder, n), fmt.Sprintf("%s/\xff%d.gz", folder, n)))
	}
	m := mustMap(t, folder, Options{Pages: "\xff%d.gz"})
	same(t, "first page", m.Bytes()[:pageSize], data[:pageSize])
	must(t, "kill", killPager())
	same(t, "mapping", m.Bytes(), data)
}
