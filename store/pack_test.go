package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"lazyfs/codec"
)

// tempFile makes an empty file in the test's folder.
func tempFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "x.lazy"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sample returns n bytes of which some compress, some are zero and some don't
// compress.
func sample(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n)
	for len(b) < n {
		piece := make([]byte, min(n-len(b), 1+r.IntN(40_000)))
		switch r.IntN(3) {
		case 0:
			for i := range piece {
				piece[i] = byte(r.Uint32())
			}
		case 1:
			for i := range piece {
				piece[i] = byte('a' + r.IntN(4))
			}
		}
		b = append(b, piece...)
	}
	return b
}

// A packed store has the bytes of its source, whatever their number, passes
// Check, and so does a copy of it; a small one takes one block, any other no more
// than 12 KiB beside frames and index.
func TestPack(t *testing.T) {
	for _, size := range []int{0, 1, 1500, 4095, 4096, 4097, 16384, 16385, 300_000, 9_000_000} {
		for _, id := range []codec.ID{codec.Raw, codec.LZ4, codec.Zstd, codec.Gzip} {
			if testing.Short() && size > 1<<20 && id != codec.LZ4 {
				continue
			}
			plain := sample(size, uint64(size))
			f := tempFile(t)
			// A reader that is no file, so that no hole is seen.
			info, err := Pack(context.Background(), f, io.MultiReader(bytes.NewReader(plain)), PackOptions{
				CreateOptions: CreateOptions{Codec: id}})
			if err != nil {
				t.Fatalf("pack %d bytes with %v: %v", size, id, err)
			}
			if most := info.StoredSize + info.IndexSize + 12<<10; info.FileSize > most || info.DiskSize > most+32<<10 { // The file system needs some.
				t.Errorf("%v: %d bytes take %d, on disk %d, want at most %d", id, size, info.FileSize, info.DiskSize, most)
			}
			if size <= 1500 && info.FileSize != 4096 {
				t.Errorf("%v: %d bytes take %d, want 4096", id, size, info.FileSize)
			}
			verifyStore(t, f.Name(), plain)
			w, err := Open(f.Name(), Options{Writable: true}) // f, still open, holds no lock.
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			src, err := Open(f.Name(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			c := tempFile(t)
			if err := Copy(context.Background(), c, src, nil); err != nil {
				t.Fatalf("copy of %d bytes: %v", size, err)
			}
			src.Close()
			verifyStore(t, c.Name(), plain)
		}
	}
}

// A frame is compressed when that saves a tenth of it, and stays raw where it
// would save a fiftieth.
func TestWhatStaysRaw(t *testing.T) {
	for values, want := range map[int]string{137: "zstd", 222: "raw"} { // 7.1 and 7.8 bits
		plain := make([]byte, 10*DefaultFrameSize)
		r := rand.New(rand.NewPCG(1, uint64(values)))
		for i := range plain {
			plain[i] = byte(r.IntN(values))
		}
		info, err := Pack(context.Background(), tempFile(t), bytes.NewReader(plain), PackOptions{
			CreateOptions: CreateOptions{Codec: codec.Zstd}})
		if err != nil {
			t.Fatal(err)
		}
		if info.Frames[want] != 10 {
			t.Errorf("bytes of %d values: %v, want 10 %s", values, info.Frames, want)
		}
	}
}

func verifyStore(t testing.TB, path string, plain []byte) {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()+1))
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%s: %d bytes, %v; want the %d that were packed", path, len(got), err, len(plain))
	}
	frame := make([]byte, s.FrameSize())
	for n := int64(0); n<<s.shift < int64(len(plain)); n++ {
		zero, err := s.ReadFrame(n, frame)
		if err != nil {
			t.Fatal(err)
		}
		if zero {
			clear(frame)
		}
		want := plain[n<<s.shift : min(len(plain), int(n+1)<<s.shift)]
		if !bytes.Equal(frame[:len(want)], want) || !isZero(frame[len(want):]) {
			t.Errorf("%s: frame %d is wrong", path, n)
		}
	}
	err = s.Check(context.Background(), func(d *DamageError) { t.Error(d) }, nil)
	if err != nil {
		t.Error(err)
	}
}

// Holes of a file stay holes, and cost nothing.
func TestPackHoles(t *testing.T) {
	src := tempFile(t)
	if err := src.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 1 << 30, 1<<40 - 5} {
		if _, err := src.WriteAt([]byte("hello"), off); err != nil {
			t.Fatal(err)
		}
	}
	f := tempFile(t)
	info, err := Pack(context.Background(), f, src, PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != 1<<40 || info.FileSize > 256<<10 || info.Frames["hole"] != 1<<26-3 {
		t.Errorf("packed %d bytes into %d with frames %v", info.Size, info.FileSize, info.Frames)
	}
	s, err := Open(f.Name(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, want := range []struct{ from, data, hole int64 }{
		{0, 0, 16 << 10}, {16 << 10, 1 << 30, 16 << 10}, {1<<30 + 7, 1<<30 + 7, 1<<30 + 16<<10}, {1 << 39, 1<<40 - 16<<10, 1 << 39},
	} {
		data, err1 := s.SeekData(want.from)
		hole, err2 := s.SeekHole(want.from)
		if err1 != nil || err2 != nil || data != want.data || hole != want.hole {
			t.Errorf("from %#x: data at %#x (%v), hole at %#x (%v), want %#x and %#x", want.from, data, err1, hole, err2, want.data, want.hole)
		}
	}
}

// A file that is one hole is packed as one, also when it is just as long as a frame.
func TestPackHole(t *testing.T) {
	for _, size := range []int{1, DefaultFrameSize - 1, DefaultFrameSize, DefaultFrameSize + 1, 3 * DefaultFrameSize} {
		src := memoryFile(t, nil)
		defer src.Close()
		must(t, src.Truncate(int64(size)))
		f := tempFile(t)
		_, err := Pack(context.Background(), f, src, PackOptions{})
		must(t, err)
		verifyStore(t, f.Name(), make([]byte, size))
	}
}

// A pack whose source fails, be it for an early end, or that is cancelled, ends with
// the cause, and its file is no store; until then its progress only grows.
func TestPackFails(t *testing.T) {
	packFails(t, errors.New("broken"))
	packFails(t, io.ErrUnexpectedEOF)
}

func packFails(t *testing.T, broken error) {
	plain := sample(20<<20, 1)
	for _, workers := range []int{1, 2, 9} {
		for _, whole := range []int64{1000, 1 << 20, 5<<20 + 1} {
			f := tempFile(t)
			r := io.MultiReader(bytes.NewReader(plain[:whole]), iotest.ErrReader(broken))
			if _, err := Pack(context.Background(), f, r, PackOptions{Workers: workers}); !errors.Is(err, broken) {
				t.Errorf("%d workers, source that breaks at %d: %v, want %v", workers, whole, err, broken)
			}
			noStore(t, f.Name())

			f = tempFile(t)
			ctx, cancel := context.WithCancelCause(context.Background())
			var last int64
			_, err := Pack(ctx, f, bytes.NewReader(plain), PackOptions{Workers: workers, Progress: func(plain, _ int64) {
				if plain <= last {
					t.Errorf("progress of %d bytes after %d", plain, last)
				}
				if last = plain; plain >= whole {
					cancel(broken)
				}
			}})
			if !errors.Is(err, broken) {
				t.Errorf("%d workers, cancelled at %d: %v, want %v", workers, last, err, broken)
			}
			noStore(t, f.Name())
		}
	}
}

func noStore(t *testing.T, path string) {
	t.Helper()
	if s, err := Open(path, Options{}); err == nil {
		s.Close()
		t.Errorf("%s is a store of %d bytes, want none", path, s.Size())
	}
}
