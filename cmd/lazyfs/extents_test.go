package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// A fakeData is plain data with holes in units of 4 KiB, as a bitmap.
type fakeData struct {
	plain []byte
	data  []bool
	fail  error // for every read
}

const fakeUnit = 4096

func newFakeData(seed uint64, size int) *fakeData {
	r := rand.New(rand.NewPCG(seed, 0))
	f := &fakeData{plain: make([]byte, size), data: make([]bool, (size+fakeUnit-1)/fakeUnit)}
	run := false
	for i := range f.data {
		if r.IntN(300) == 0 {
			run = !run
		}
		f.data[i] = run
		if run {
			for j := i * fakeUnit; j < min((i+1)*fakeUnit, size); j++ {
				f.plain[j] = byte(r.Uint32())
			}
		}
	}
	return f
}

func (f *fakeData) Size() int64 { return int64(len(f.plain)) }

func (f *fakeData) ReadAt(p []byte, off int64) (int, error) {
	if f.fail != nil {
		return 0, f.fail
	}
	return bytes.NewReader(f.plain).ReadAt(p, off)
}

func (f *fakeData) seek(off int64, data bool) int64 {
	for i := off / fakeUnit; i < int64(len(f.data)); i++ {
		if f.data[i] == data {
			return max(off, i*fakeUnit)
		}
	}
	return f.Size()
}

func (f *fakeData) SeekData(off int64) (int64, error) {
	if at := f.seek(off, true); at < f.Size() {
		return at, nil
	}
	return 0, io.EOF
}

func (f *fakeData) SeekHole(off int64) (int64, error) { return f.seek(off, false), nil }

// restore and stream give every byte, with any number of workers, whatever the
// holes, and for sizes around the chunk size.
func TestRestoreAndStream(t *testing.T) {
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 9*chunkSize + 777} {
		seed := rand.Uint64()
		src := newFakeData(seed, size)
		for _, jobs := range []int{1, 3, 16} {
			path := filepath.Join(t.TempDir(), "x")
			dst, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			err = restore(context.Background(), dst, src, jobs, func(int64) {})
			dst.Close()
			if err != nil {
				t.Fatalf("size %d, jobs %d, seed %d: restore: %v", size, jobs, seed, err)
			}
			if got, err := os.ReadFile(path); !bytes.Equal(got, src.plain) {
				t.Errorf("size %d, jobs %d, seed %d: restore gave other bytes (%v)", size, jobs, seed, err)
			}
			var out bytes.Buffer
			off := int64(size / 3)
			if err := stream(context.Background(), &out, src, off, int64(size)-off, jobs, func(int64) {}); err != nil {
				t.Fatalf("size %d, jobs %d, seed %d: stream: %v", size, jobs, seed, err)
			}
			if !bytes.Equal(out.Bytes(), src.plain[off:]) {
				t.Errorf("size %d, jobs %d, seed %d: stream gave other bytes", size, jobs, seed)
			}
		}
	}
}

// A failed read, and a cancelled context, end both with that error.
func TestRestoreAndStreamFail(t *testing.T) {
	broken := errors.New("broken")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		fail error
		want error
	}{
		{context.Background(), broken, broken},
		{cancelled, nil, context.Canceled},
	} {
		src := newFakeData(1, 20*chunkSize)
		src.fail = c.fail
		dst, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		defer dst.Close()
		if err := restore(c.ctx, dst, src, 4, func(int64) {}); !errors.Is(err, c.want) {
			t.Errorf("restore: %v, want %v", err, c.want)
		}
		if err := stream(c.ctx, io.Discard, src, 0, src.Size(), 4, func(int64) {}); !errors.Is(err, c.want) {
			t.Errorf("stream: %v, want %v", err, c.want)
		}
	}
}

// Of a file that grows while it is copied the copy has what it was before; one that
// shrinks is an error, which names it.
func TestRestoreChangingFile(t *testing.T) {
	for _, c := range []struct{ data, size, then int64 }{
		{1000, 1000, 3 * chunkSize},
		{chunkSize, 2 * chunkSize, 5 * chunkSize},
		{3 * chunkSize, 3 * chunkSize, chunkSize},
		{3 * chunkSize, 4 * chunkSize, 3 * chunkSize},
	} {
		path := filepath.Join(t.TempDir(), "src")
		plain := bytes.Repeat([]byte("lazy"), int(c.data/4))
		if err := errors.Join(os.WriteFile(path, plain, 0o600), os.Truncate(path, c.size)); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		src := sparseFile{f, c.size}
		changed, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer changed.Close()
		if err := changed.Truncate(c.then); err != nil {
			t.Fatal(err)
		}
		if c.then > c.size {
			if _, err := changed.WriteAt([]byte("new"), c.then-3); err != nil {
				t.Fatal(err)
			}
		}
		dst, err := os.Create(filepath.Join(t.TempDir(), "dst"))
		if err != nil {
			t.Fatal(err)
		}
		defer dst.Close()
		err = restore(context.Background(), dst, src, 2, func(int64) {})
		if c.then < c.size {
			want := fmt.Sprintf("%s: ends at %#x, at %#x when it was opened", path, c.then, c.size)
			if err == nil || err.Error() != want {
				t.Errorf("%d bytes become %d: restore: %v, want %s", c.size, c.then, err, want)
			}
			if err := readFull(src, make([]byte, 10), c.size-10); err == nil || err.Error() != want {
				t.Errorf("%d bytes become %d: read: %v, want %s", c.size, c.then, err, want)
			}
			continue
		}
		want := append(plain, make([]byte, c.size-c.data)...)
		if got, readErr := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes become %d: the copy has %d others (%v, %v)", c.size, c.then, len(got), err, readErr)
		}
	}
}
