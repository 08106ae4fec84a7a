package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// dumped is the text that Dump writes about s.
func dumped(t testing.TB, s *Store) string {
	t.Helper()
	var b strings.Builder
	if err := s.Dump(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A dump shows every part of a store: both superblocks and which is in use,
// inline data, log blocks with their operations, index nodes with their entries,
// every frame, and free space; and it says so of a writer's store as of a
// reader's.
func TestDumpShowsEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lazy")
	s, err := Create(path, CreateOptions{FrameSize: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Discard()
	mustWrite(t, s, []byte("short"), 0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	wantLines(t, dumped(t, s), `superblock of generation 2, in use`, `magic: "LAZYFS\\r\\n"`,
		`plain size: 5$`, `inline data: frame 0 as raw, 5 bytes hold 5`, `end of file`)

	mustWrite(t, s, bytes.Repeat([]byte("long"), 3000), 0)
	if err := s.Sync(); err != nil { // Leaves the superblock: a checkpoint.
		t.Fatal(err)
	}
	mustWrite(t, s, []byte("more"), 5000)
	if err := s.Punch(0, 4096); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, s := range []*Store{s, r} {
		wantLines(t, dumped(t, s), `superblock of generation 3, in use`, `log block of generation 4, the last of its commit`,
			`durable generation: 3`, `1 frames from 0 on: holes`, `  frame 1: lz4 at 0x`, `index node of level 0, from frame 0 on, 3 entries`,
			`from frame 2 on: lz4 at`, `frame 1: lz4, \d+ bytes hold 4096, generation 4`, `frame 2: lz4, \d+ bytes hold 3808, generation 3`,
			`bytes free`, `log: room for the next block`)
	}
}

func mustWrite(t testing.TB, s *Store, p []byte, off int64) {
	t.Helper()
	if _, err := s.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !regexp.MustCompile("(?m)" + l).MatchString(text) {
			t.Errorf("dump has no line with %q:\n%s", l, text)
		}
	}
}

// A dump accounts for every byte of a closed store: its lines' extents and free
// ranges fill the file from the first block to the end.
func TestDumpCoversFile(t *testing.T) {
	plain := sample(3_000_000, 7)
	f := tempFile(t)
	if _, err := Pack(context.Background(), f, bytes.NewReader(plain), PackOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(f.Name(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	covered, end := int64(dataStart), int64(0)
	for _, l := range strings.Split(dumped(t, s), "\n") {
		var at, n int64
		if m := regexp.MustCompile(`^(0x\w+) .* (?:frame|node) .*: \w+, (\d+) bytes hold`).FindStringSubmatch(l); m != nil {
			fmt.Sscan(m[2], &n)
			covered += roundUp(n+frameHeadLen, unit)
		} else if m := regexp.MustCompile(`^(0x\w+) .* (\d+) bytes free`).FindStringSubmatch(l); m != nil {
			fmt.Sscan(m[2], &n)
			covered += n
		} else if m := regexp.MustCompile(`^(0x\w+) .*end of file`).FindStringSubmatch(l); m != nil {
			fmt.Sscan(m[1], &at)
			end = at
		}
	}
	if covered != end || end == 0 {
		t.Errorf("dump covers %#x bytes of %#x", covered, end)
	}
}

// failWriter fails after some bytes, as a closed pipe does.
type failWriter struct{ left int }

var errPipe = errors.New("pipe is closed")

func (w *failWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errPipe
	}
	return len(p), nil
}

// A dump ends with the writer's error wherever that comes.
func TestDumpWriteFails(t *testing.T) {
	f := tempFile(t)
	if _, err := Pack(context.Background(), f, bytes.NewReader(sample(1_000_000, 7)), PackOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(f.Name(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := 0; n < len(dumped(t, s)); n += 500 {
		if err := s.Dump(&failWriter{n}); !errors.Is(err, errPipe) {
			t.Errorf("dump into a pipe that closes after %d bytes: %v, want %v", n, err, errPipe)
		}
	}
	if err := s.Dump(io.Discard); err != nil {
		t.Error(err)
	}
}
