package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
)

// sparseFile is a file in memory of a MiB of noise, a MiB of hole, and behind it
// the bytes of end.
func sparseFile(t *testing.T, end []byte) (f *os.File, plain []byte) {
	t.Helper()
	f = memoryFile(t, nil)
	t.Cleanup(func() { f.Close() })
	plain = append(make([]byte, 2<<20), end...)
	copy(plain, noise(1<<20, 1))
	must(t, f.Truncate(int64(len(plain))))
	_, err := f.WriteAt(plain[:1<<20], 0)
	must(t, err)
	_, err = f.WriteAt(end, 2<<20)
	must(t, err)
	return f, plain
}

// packWhile packs src, and calls change when the first of it is packed.
func packWhile(dst, src *os.File, change func() error) error {
	var changed error
	_, err := Pack(context.Background(), dst, src, PackOptions{Workers: 1, Progress: func(int64, int64) {
		if change != nil {
			changed = change()
			change = nil
		}
	}})
	return errors.Join(err, changed)
}

// Of a file that grows while it is packed the store has what it was before.
func TestPackGrowingFile(t *testing.T) {
	for _, end := range [][]byte{nil, []byte("end")} {
		src, plain := sparseFile(t, end)
		dst := tempFile(t)
		must(t, packWhile(dst, src, func() error {
			_, err := src.WriteAt([]byte("new"), 8<<20)
			return err
		}))
		verifyStore(t, dst.Name(), plain)
	}
}

// A file that shrinks while it is packed is an error, also when what is left ends with
// a whole frame and all behind it looks like a hole. It is named: it may be one of many.
func TestPackShrinkingFile(t *testing.T) {
	for _, end := range [][]byte{nil, []byte("end"), noise(1<<20, 2)} {
		for _, size := range []int64{1 << 20, 1<<20 + 5, 1<<20 + 2*DefaultFrameSize} {
			src, plain := sparseFile(t, end)
			dst := tempFile(t)
			err := packWhile(dst, src, func() error { return src.Truncate(size) })
			want := fmt.Sprintf("%s: ends at %#x, at %#x when it was opened", src.Name(), size, len(plain))
			if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), want) {
				t.Errorf("pack of %d bytes that become %d: %v, want %s", len(plain), size, err, want)
			}
			noStore(t, dst.Name())
		}
	}
}

// A file of the kernel, whose size is said to be 0, is packed with what can be read.
func TestPackKernelFile(t *testing.T) {
	src, err := os.Open("/proc/version")
	must(t, err)
	defer src.Close()
	want, err := os.ReadFile(src.Name())
	must(t, err)
	dst := tempFile(t)
	_, err = Pack(context.Background(), dst, src, PackOptions{})
	must(t, err)
	verifyStore(t, dst.Name(), want)
}

// A file of the kernel that says it is a page and holds less is packed with what it holds.
func TestPackShorterThanItSays(t *testing.T) {
	src, err := os.Open("/sys/kernel/fscaps")
	if err != nil {
		t.Skip(err)
	}
	defer src.Close()
	want, err := os.ReadFile(src.Name())
	must(t, err)
	if fi, err := src.Stat(); err != nil || fi.Size() <= int64(len(want)) {
		t.Skipf("%s says it is no longer than it is: %v", src.Name(), err)
	}
	dst := tempFile(t)
	_, err = Pack(context.Background(), dst, src, PackOptions{})
	must(t, err)
	verifyStore(t, dst.Name(), want)
}

// A file above the largest size of a store is refused, one of that size is packed.
func TestPackHugeFile(t *testing.T) {
	for _, size := range []int64{MaxSize, MaxSize + 1, 2 * MaxSize, math.MaxInt64} {
		src := memoryFile(t, nil)
		defer src.Close()
		must(t, src.Truncate(size))
		_, err := src.WriteAt([]byte("end"), size-3)
		must(t, err)
		dst := tempFile(t)
		_, err = Pack(context.Background(), dst, src, PackOptions{})
		if size > MaxSize {
			if !errors.Is(err, ErrTooLarge) {
				t.Errorf("pack of %#x bytes: %v, want %v", size, err, ErrTooLarge)
			}
			noStore(t, dst.Name())
			continue
		}
		must(t, err)
		s, err := Open(dst.Name(), Options{})
		must(t, err)
		defer s.Close()
		end := make([]byte, 3)
		if _, err := s.ReadAt(end, size-3); err != nil || string(end) != "end" {
			t.Errorf("the store of %#x bytes ends with %q, %v", s.Size(), end, err)
		}
	}
}

// A stallingReader brings nothing, without an error, as often as stalls says before each
// byte.
type stallingReader struct {
	r             io.Reader
	stalls, still int
}

func (r *stallingReader) Read(b []byte) (int, error) {
	if r.still--; r.still >= 0 {
		return 0, nil
	}
	r.still = r.stalls
	return r.r.Read(b[:1])
}

// A reader may bring nothing now and then, but not for ever.
func TestPackStallingReader(t *testing.T) {
	plain := text(3000, "words ")
	for stalls, limit := range map[int]error{1: nil, maxEmptyReads - 1: nil, maxEmptyReads: io.ErrNoProgress, math.MaxInt: io.ErrNoProgress} {
		dst := tempFile(t)
		r := &stallingReader{bytes.NewReader(plain), stalls, stalls}
		_, err := Pack(context.Background(), dst, r, PackOptions{})
		switch {
		case !errors.Is(err, limit):
			t.Errorf("pack of a reader that brings nothing %d times: %v, want %v", stalls, err, limit)
		case limit == nil:
			verifyStore(t, dst.Name(), plain)
		default:
			noStore(t, dst.Name())
		}
	}
}

// Of a file that was read in part the rest is packed.
func TestPackRestOfFile(t *testing.T) {
	want := noise(100_000, 1)
	src := memoryFile(t, want)
	defer src.Close()
	for _, from := range []int64{0, 5, 50_000, 100_000} {
		_, err := src.Seek(from, io.SeekStart)
		must(t, err)
		f := tempFile(t)
		_, err = Pack(context.Background(), f, src, PackOptions{})
		must(t, err)
		verifyStore(t, f.Name(), want[from:])
	}
}
