package store

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// writePage writes plain as a page file.
func writePage(t *testing.T, folder, name string, plain []byte) {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name = name
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openPages(t *testing.T, folder, pattern string) *Pages {
	t.Helper()
	p, err := OpenPages(folder, pattern)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// pageFolder is a folder of page files with holes and a short last page, and
// the plain bytes that it stands for.
func pageFolder(t *testing.T, pattern string) (folder string, plain []byte) {
	folder = t.TempDir()
	r := rand.NewChaCha8([32]byte{1})
	plain = make([]byte, 9*PageSize+1234)
	for _, n := range []int{0, 1, 4, 8, 9} {
		page := plain[n*PageSize : min(len(plain), (n+1)*PageSize)]
		_, _ = r.Read(page[:len(page)/2])
		writePage(t, folder, fmt.Sprintf(pattern, n), page)
	}
	for _, name := range []string{"tmp.gz", "tmpx.gz", "tmp-1.gz", "tmp+2.gz", "tmp02.gz", "tmp1.gz.bak", "xtmp1.gz", "tmp 3.gz"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("not a page"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder, plain
}

// A folder of page files reads like the file that was cut into them, whatever
// is read from wherever and by however many at once; names that only look like
// a page's are left alone.
func TestPages(t *testing.T) {
	for _, pattern := range []string{"tmp%d.gz", "%dtmp", "tmp%03d.gz", "é%018d"} {
		folder, plain := pageFolder(t, pattern)
		dir, err := os.Open(folder)
		if err != nil {
			t.Fatal(err)
		}
		at, err := OpenPagesAt(dir, pattern)
		if err != nil {
			t.Fatal(err)
		}
		defer at.Close()
		for _, p := range []*Pages{openPages(t, folder, pattern), at} {
			if p.Size() != int64(len(plain)) || p.FrameSize() != PageSize {
				t.Fatalf("%s: size %d, frames of %d, want %d, %d", pattern, p.Size(), p.FrameSize(), len(plain), PageSize)
			}
			seed := rand.Uint64()
			var wg sync.WaitGroup
			for w := range 3 {
				wg.Go(func() { checkReads(t, p, plain, rand.New(rand.NewPCG(seed, uint64(w)))) })
			}
			wg.Wait()
			checkFrames(t, p, plain)
			if t.Failed() {
				t.Fatalf("pattern %s, seed %d", pattern, seed)
			}
		}
	}
}

func checkReads(t *testing.T, p *Pages, plain []byte, r *rand.Rand) {
	for range 200 {
		off, got := r.IntN(len(plain)+2*PageSize), make([]byte, r.IntN(4*PageSize))
		if r.IntN(2) == 0 {
			off &^= PageSize - 1
		}
		want := plain[min(off, len(plain)):min(off+len(got), len(plain))]
		_, _ = rand.NewChaCha8([32]byte{}).Read(got)
		n, err := p.ReadAt(got, int64(off))
		if n != len(want) || !bytes.Equal(got[:n], want) || (err == io.EOF) != (n < len(got)) || err != nil && err != io.EOF {
			t.Errorf("read of %d at %#x: %d, %v, or wrong bytes, want %d", len(got), off, n, err, len(want))
		}
	}
	if _, err := p.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read at -1 succeeds")
	}
}

func checkFrames(t *testing.T, p *Pages, plain []byte) {
	padded := append(bytes.Clone(plain), make([]byte, PageSize)...)
	for n := range int64(10) {
		got := bytes.Repeat([]byte{0xee}, PageSize)
		want := padded[n*PageSize:][:PageSize]
		zero, err := p.ReadFrame(n, got)
		if hole := n != 0 && n != 1 && n != 4 && n < 8; err != nil || zero != hole {
			t.Errorf("frame %d: %v, %v, want %v", n, zero, err, hole)
		}
		if !zero && !bytes.Equal(got, want) {
			t.Errorf("frame %d reads back wrong", n)
		}
	}
	for _, n := range []int64{-1, 10, 1 << 50} {
		if _, err := p.ReadFrame(n, make([]byte, PageSize)); !errors.Is(err, io.EOF) {
			t.Errorf("frame %d: %v, want EOF", n, err)
		}
	}
	if _, err := p.ReadFrame(0, make([]byte, PageSize-1)); err == nil {
		t.Error("short buffer is taken")
	}
}

// A page file that is not one page is damage, named with its path and its plain
// bytes, and the other pages read as ever, also when it is the last.
func TestPagesDamage(t *testing.T) {
	alone(t)
	whole := bytes.Repeat([]byte("page"), PageSize/4)
	for name, spoil := range map[string]func(t *testing.T, folder, file string){
		"short": func(t *testing.T, folder, file string) { writePage(t, folder, file, whole[:4095]) },
		"long":  func(t *testing.T, folder, file string) { writePage(t, folder, file, append(whole, 0)) },
		"empty": func(t *testing.T, folder, file string) { os.Truncate(filepath.Join(folder, file), 0) },
		"cut":   func(t *testing.T, folder, file string) { os.Truncate(filepath.Join(folder, file), 30) },
		"bomb":  func(t *testing.T, folder, file string) { writePage(t, folder, file, make([]byte, 32<<20)) },
		"huge":  func(t *testing.T, folder, file string) { os.Truncate(filepath.Join(folder, file), 1<<40) },
		"text": func(t *testing.T, folder, file string) {
			os.WriteFile(filepath.Join(folder, file), whole, 0o600)
		},
		"flipped": func(t *testing.T, folder, file string) {
			b, _ := os.ReadFile(filepath.Join(folder, file))
			b[len(b)-6] ^= 1 // In the checksum.
			os.WriteFile(filepath.Join(folder, file), b, 0o600)
		},
	} {
		for _, bad := range []int64{1, 2} {
			if name == "short" && bad == 2 {
				continue // A shorter last page is right.
			}
			t.Run(fmt.Sprintf("%s/%d", name, bad), func(t *testing.T) {
				folder := t.TempDir()
				for n := range 3 {
					writePage(t, folder, fmt.Sprintf("tmp%d.gz", n), whole)
				}
				file := fmt.Sprintf("tmp%d.gz", bad)
				spoil(t, folder, file)
				p := openPages(t, folder, "tmp%d.gz")
				if p.Size() != 3*PageSize {
					t.Errorf("size %d, want %d", p.Size(), 3*PageSize)
				}
				got := make([]byte, 3*PageSize)
				n, err := p.ReadAt(got, 0)
				var d *DamageError
				if !errors.As(err, &d) || !errors.Is(err, ErrDamaged) || int64(n) != bad*PageSize {
					t.Fatalf("read: %d, %v, want %d and ErrDamaged", n, err, bad*PageSize)
				}
				if path := filepath.Join(folder, file); d.Path != path || d.Plain != (Range{bad * PageSize, PageSize}) {
					t.Errorf("damage of %s, plain %v, want %s, page %d", d.Path, d.Plain, path, bad)
				}
				t.Log(err)
				for n := range int64(3) {
					if _, err := p.ReadFrame(n, got[:PageSize]); (err != nil) != (n == bad) {
						t.Errorf("page %d beside a bad page %d: %v", n, bad, err)
					}
				}
			})
		}
	}
}

// What is no file does not make a reader wait or fail the whole folder, and a
// file that is gone is no hole.
func TestPagesOddFiles(t *testing.T) {
	folder := t.TempDir()
	page := make([]byte, PageSize)
	for _, n := range []int{0, 4, 5} {
		writePage(t, folder, fmt.Sprintf("%d", n), page)
	}
	if err := unix.Mkfifo(filepath.Join(folder, "1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "2"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := openPages(t, folder, "%d")
	if err := os.Remove(filepath.Join(folder, "4")); err != nil {
		t.Fatal(err)
	}
	for n, bad := range []bool{false, true, true, false, true, false} {
		zero, err := p.ReadFrame(int64(n), page)
		if (err != nil) != bad || errors.Is(err, ErrDamaged) || zero != (n == 3) {
			t.Errorf("page %d: %v, %v", n, zero, err)
		}
		if bad && !strings.Contains(err.Error(), filepath.Join(folder, fmt.Sprint(n))) {
			t.Errorf("page %d: %q does not name its file", n, err)
		}
	}
	p.Close()
	if _, err := p.ReadFrame(0, page); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after Close: %v, want ErrClosed", err)
	}
}

// A pattern is taken as what it says or refused; it is never a format for
// anything else.
func TestPagesPattern(t *testing.T) {
	folder, _ := pageFolder(t, "tmp%d.gz")
	for _, pattern := range []string{
		"", "tmp.gz", "tmp%s.gz", "tmp%d%d.gz", "tmp%d%.gz", "%%d", "tmp%x.gz", "%-3d", "%+d", "% d", "%3d", "%0d",
		"%019d", "%00000003d", "%*d", "%[1]d", "tmp%d.gz%n", "../%d", "a/%d", "%.3d", "%v", "%\xffd", "%d\x00",
	} {
		if p, err := OpenPages(folder, pattern); err == nil {
			t.Errorf("pattern %q is taken, %d bytes", pattern, p.Size())
		} else if !strings.HasPrefix(err.Error(), "pattern ") {
			t.Errorf("pattern %q: %v", pattern, err)
		}
	}
	if _, err := OpenPages(folder, "page%d.gz"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pattern that fits no file: %v, want ErrNotExist", err)
	}
	if _, err := OpenPages(filepath.Join(folder, "none"), "tmp%d.gz"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder that is not there: %v, want ErrNotExist", err)
	}
}

// The page numbers alone decide the size, and a large one costs no memory; one
// that no store can have is refused.
func TestPagesLargeNumbers(t *testing.T) {
	folder := t.TempDir()
	page := bytes.Repeat([]byte{7}, PageSize)
	const last = MaxSize/PageSize - 1
	writePage(t, folder, fmt.Sprintf("%d", int64(last)), page)
	p := openPages(t, folder, "%d")
	got := make([]byte, 2*PageSize)
	n, err := p.ReadAt(got, (last-1)*PageSize)
	if p.Size() != MaxSize || n != len(got) || err != nil || !bytes.Equal(got[PageSize:], page) {
		t.Errorf("size %#x, read %d, %v", p.Size(), n, err)
	}
	for _, name := range []string{fmt.Sprint(int64(last + 1)), "99999999999999999999999999"} {
		other := t.TempDir()
		writePage(t, other, name, page)
		if _, err := OpenPages(other, "%d"); !errors.Is(err, ErrTooLarge) {
			t.Errorf("page number %s: %v, want ErrTooLarge", name, err)
		}
	}
}

// A page without a file is a hole in the store that is packed from them, and costs
// neither time nor room there.
func TestPackPages(t *testing.T) {
	folder := t.TempDir()
	page := bytes.Repeat([]byte{7}, PageSize)
	pages := []int64{0, 1, 3, 4, 1 << 20, 1<<30 - 1, 1 << 30, MaxSize/PageSize/2 - 1}
	for _, n := range pages {
		writePage(t, folder, fmt.Sprint(n), page)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "x.lazy"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := Pack(t.Context(), f, openPages(t, folder, "%d").Reader(), PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Pages 0, 1 and 3 lie in one frame, each other in one of its own.
	if info.Size != MaxSize/2 || info.DataSize != 6*DefaultFrameSize || info.FileSize > 1<<20 {
		t.Errorf("store has %#x plain bytes, %d of them data, in a file of %d", info.Size, info.DataSize, info.FileSize)
	}
	s, err := Open(f.Name(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := make([]byte, PageSize)
	for n, want := range map[int64][]byte{2: make([]byte, PageSize), 5: make([]byte, PageSize), 1<<30 + 1: make([]byte, PageSize)} {
		if _, err := s.ReadAt(got, n*PageSize); err != nil || !bytes.Equal(got, want) {
			t.Errorf("page %d without a file is not zero (%v)", n, err)
		}
	}
	for _, n := range pages {
		if _, err := s.ReadAt(got, n*PageSize); err != nil || !bytes.Equal(got, page) {
			t.Errorf("page %d has other bytes (%v)", n, err)
		}
	}
}

// Two processes may hold one description of a folder: opening it through one
// does not depend on how far the other has listed it.
func TestPagesAtSharedFolder(t *testing.T) {
	folder, plain := pageFolder(t, "tmp%d.gz")
	dir, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Readdirnames(-1); err != nil {
		t.Fatal(err)
	}
	p, err := OpenPagesAt(dir, "tmp%d.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Size() != int64(len(plain)) {
		t.Errorf("size %d, want %d", p.Size(), len(plain))
	}
}

func BenchmarkPagesReadFrame(b *testing.B) {
	folder := b.TempDir()
	page := bytes.Repeat([]byte("some words in a page "), 200)[:PageSize]
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(page)
	w.Close()
	if err := os.WriteFile(filepath.Join(folder, "0"), z.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	p, err := OpenPages(folder, "%d")
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.ReadFrame(0, page); err != nil {
			b.Fatal(err)
		}
	}
}
