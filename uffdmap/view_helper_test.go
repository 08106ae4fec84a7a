package uffdmap

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"
	"unsafe"

	"lazyfs/store"
)

// newRand returns a random source whose seed is in the test's output.
func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// plainBytes makes n bytes: pages of zeros, of one repeated line, of noise.
func plainBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for at := 0; at < n; at += store.PageSize {
		page := b[at:min(at+store.PageSize, n)]
		switch rnd.IntN(5) {
		case 0:
		case 1:
			for i := range page {
				page[i] = byte(rnd.Uint32())
			}
		default:
			line := make([]byte, 8+rnd.IntN(60))
			for i := range line {
				line[i] = 'a' + byte(rnd.IntN(26))
			}
			for i := 0; i < len(page); i += copy(page[i:], line) {
			}
		}
	}
	return b
}

// newStore makes a store of b and returns its path.
func newStore(t testing.TB, b []byte, frameSize int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.lazy")
	s, err := store.Create(path, store.CreateOptions{FrameSize: frameSize})
	must(t, "create", err)
	_, err = s.WriteAt(b, 0)
	must(t, "write", err)
	must(t, "close", s.Close())
	return path
}

// stored reads all of the store at path.
func stored(t testing.TB, path string) []byte {
	t.Helper()
	s, err := store.Open(path, store.Options{})
	must(t, "open", err)
	defer s.Close()
	b := make([]byte, s.Size())
	if len(b) > 0 {
		_, err = s.ReadAt(b, 0)
		must(t, "read", err)
	}
	return b
}

// openView opens a View mapping that the test's end closes.
func openView(t testing.TB, path string, o Options) *Viewer {
	t.Helper()
	v, err := Open(path, o)
	must(t, "open view", err)
	t.Cleanup(func() { v.Close() })
	return v
}

func must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// same fails the test when got differs from want, and says where.
func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d bytes, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: byte %#x is %#x, want %#x", what, i, got[i], want[i])
		}
	}
}

// touchByte reads b[i] and gives the address of the fault if that traps, else 0.
func touchByte(b []byte, i int) (v byte, trapped uintptr) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			trapped = r.(interface{ Addr() uintptr }).Addr()
		}
	}()
	return b[i], 0
}

// writeTraps says whether a write to b traps.
func writeTraps(b []byte) (traps bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { traps = recover() != nil }()
	b[0]++
	return false
}

// longRun says whether storms run for a minute instead of seconds.
func longRun() bool { return os.Getenv("LAZYFS_LONG") != "" }

// ptr is the address of b[i].
func ptr(b []byte, i int) unsafe.Pointer { return unsafe.Pointer(&b[i]) }
