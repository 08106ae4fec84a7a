package store

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// Whatever is asked of a store that is closed, the answer is that it is.
func TestClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	for _, size := range []int{100, 9 * MinFrameSize} {
		for _, writable := range []bool{false, true} {
			f, err := os.Create(path)
			must(t, err)
			s, err := CreateFile(f, CreateOptions{FrameSize: MinFrameSize})
			must(t, err)
			mustWrite(t, s, noise(size, 1), 0)
			must(t, s.Close())
			s, err = Open(path, Options{Writable: writable})
			must(t, err)
			w := s.NewFrameWriter()
			must(t, s.Close())
			b := make([]byte, MinFrameSize)
			for what, ask := range map[string]func() error{
				"ReadAt":       func() error { _, err := s.ReadAt(b, 0); return err },
				"ReadFrame":    func() error { _, err := s.ReadFrame(0, b); return err },
				"ReadFrames":   func() error { _, _, err := s.ReadFrames(0, b); return err },
				"SeekData":     func() error { _, err := s.SeekData(0); return err },
				"SeekHole":     func() error { _, err := s.SeekHole(0); return err },
				"Info":         func() error { _, err := s.Info(); return err },
				"FrameInfo":    func() error { _, err := s.FrameInfo(0); return err },
				"Check":        func() error { return s.Check(context.Background(), func(*DamageError) {}, nil) },
				"Dump":         func() error { return s.Dump(io.Discard) },
				"Copy":         func() error { return Copy(context.Background(), tempFile(t), s, nil) },
				"WriteAt":      func() error { _, err := s.WriteAt(b, 0); return err },
				"WriteFrame":   func() error { return s.WriteFrame(0, b[:min(size, len(b))]) },
				"ExpectWrites": func() error { return s.ExpectWrites() },
				"Add":          func() error { return w.Add(0, b[:min(size, len(b))]) },
				"Truncate":     func() error { return s.Truncate(5) },
				"Punch":        func() error { return s.Punch(0, 5) },
				"Commit":       func() error { return s.Commit() },
				"Sync":         func() error { return s.Sync() },
				"Compact":      func() error { return s.Compact(context.Background(), CompactOptions{}) },
				"Discard":      func() error { return s.Discard() },
				"Close":        func() error { return s.Close() },
			} {
				if err := ask(); !errors.Is(err, os.ErrClosed) {
					t.Errorf("%s of a store of %d bytes, writable %v: %v, want os.ErrClosed", what, size, writable, err)
				}
			}
			w.Close()
		}
	}
}

// A FrameWriter that is closed takes nothing, and a second Close does not give its memory
// to two others.
func TestFrameWriterClosed(t *testing.T) {
	s, err := createDisk(&simDisk{}, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	must(t, s.Truncate(9*MinFrameSize))
	w := s.NewFrameWriter()
	w.Close()
	w.Close()
	if err := w.Add(1, make([]byte, MinFrameSize)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("add to a closed FrameWriter: %v, want os.ErrClosed", err)
	}
	must(t, w.Flush())
	a, b := s.NewFrameWriter(), s.NewFrameWriter()
	defer a.Close()
	defer b.Close()
	if a.buf == b.buf {
		t.Error("two FrameWriters have one buffer")
	}
}

// A compaction whose store is closed before it ends leaves the file to who has it then.
func TestCompactClosedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	fragment(t, path, "front", 100)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	s, err := OpenFile(f, Options{Writable: true, Lent: true})
	must(t, err)
	c := newCompactor(s, context.Background(), CompactOptions{}, compactStep)
	must(t, c.begin())
	moves := []move{}
	must(t, c.frames(0, func(n int64, e entry) bool {
		moves = append(moves, move{frameEntry{n, e}, toEnd})
		return true
	}))
	must(t, s.Close())
	want := overwrite(t, f)
	for what, goOn := range map[string]func() error{
		"reserve": func() error { return c.reserve(1) },
		"move":    func() error { return c.moveSome(moves) },
		"trim":    c.trim,
	} {
		if err := goOn(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s of a store that is closed: %v, want os.ErrClosed", what, err)
		}
	}
	verifyStore(t, path, want)
}

// overwrite writes the store in f anew, and returns what.
func overwrite(t *testing.T, f *os.File) []byte {
	t.Helper()
	s, err := OpenFile(f, Options{Writable: true, Lent: true})
	must(t, err)
	b := noise(300*MinFrameSize, 1)
	mustWrite(t, s, b, 0)
	must(t, s.Close())
	return b
}

// So does a write that has found out that too much waits, and then the store is closed.
func TestWriteClosedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	fragment(t, path, "front", 100)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	s, err := OpenFile(f, Options{Writable: true, Lent: true})
	must(t, err)
	mustWrite(t, s, noise(MinFrameSize, 2), 0)
	n, d := s.oldestDirty(0)
	must(t, s.Discard())
	want := overwrite(t, f)
	if err := s.flushFrame(n, d); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a frame is written to a store that is closed: %v, want os.ErrClosed", err)
	}
	verifyStore(t, path, want)
}
