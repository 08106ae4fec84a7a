package test

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// holed packs a plain file into a store and punches two frames of three in it. It
// returns the plain bytes then.
func holed(t *testing.T, path string, plain []byte) []byte {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := store.Pack(context.Background(), f, bytes.NewReader(plain), store.PackOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(path, store.Options{Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(plain)
	for off := 0; off+2*16384 <= len(plain); off += 3 * 16384 {
		clear(want[off : off+2*16384])
		if err := s.Punch(int64(off), 2*16384); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// compact makes the file shorter and leaves every byte as it was; with --codec and
// --level all frames are compressed again. It tells what it did in one line.
func TestCompact(t *testing.T) {
	dir := t.TempDir()
	want := holed(t, dir+"/x.lazy", text(3, 6<<20))
	before := sizeOf(t, dir+"/x.lazy")
	out := must(t, dir, "compact", "x.lazy")
	after := sizeOf(t, dir+"/x.lazy")
	if after > before*2/5 || !strings.HasPrefix(out, "x.lazy: ") || !strings.Contains(out, ", was ") || strings.Count(out, "\n") != 1 {
		t.Errorf("compact makes %d bytes of %d and prints %q", after, before, out)
	}
	if out := must(t, dir, "compact", "--codec", "zstd", "--level", "9", "-q", "x.lazy"); out != "" || sizeOf(t, dir+"/x.lazy") >= after {
		t.Errorf("compact --codec zstd makes %d bytes of %d and prints %q", sizeOf(t, dir+"/x.lazy"), after, out)
	}
	if info := must(t, dir, "info", "x.lazy"); !strings.Contains(info, "zstd") {
		t.Errorf("info after compact --codec zstd: %q", info)
	}
	must(t, dir, "check", "x.lazy")
	if got := must(t, dir, "cat", "x.lazy"); got != string(want) {
		t.Error("other bytes after compact")
	}
}

// --level alone compresses again with the store's own codec, also with 0, its default.
func TestCompactLevel(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1<<20))
	must(t, dir, "pack", "--codec", "zstd", "--level", "1", "plain", "x.lazy")
	for level, want := range map[string]string{"9": " level 9\n", "0": " default level\n"} {
		must(t, dir, "compact", "--level", level, "x.lazy")
		if info := must(t, dir, "info", "x.lazy"); !strings.Contains(info, "zstd") || !strings.Contains(info, want) {
			t.Errorf("info after compact --level %s: %q", level, info)
		}
	}
}

// What compact does not change, the content, it does not date anew: the store keeps its
// time and its file capabilities, whether anything was moved or not.
func TestCompactKeepsTime(t *testing.T) {
	dir := t.TempDir()
	holed(t, dir+"/x.lazy", text(3, 1<<20))
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // cap_net_bind_service=pe
	if err := unix.Setxattr(dir+"/x.lazy", "security.capability", capability, 0); err != nil {
		t.Fatal(err)
	}
	when := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	if err := os.Chtimes(dir+"/x.lazy", when, when); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {}, {"--codec", "zstd"}} {
		must(t, dir, append([]string{"compact", "x.lazy"}, args...)...)
		info, err := os.Stat(dir + "/x.lazy")
		if err != nil {
			t.Fatal(err)
		}
		if !info.ModTime().Equal(when) {
			t.Errorf("compact %q: the time is %v, want %v", args, info.ModTime(), when)
		}
		got := make([]byte, 64)
		if n, err := unix.Getxattr(dir+"/x.lazy", "security.capability", got); err != nil || string(got[:n]) != string(capability) {
			t.Errorf("compact %q: the file's capabilities are %x, %v, want %x", args, got[:max(n, 0)], err, capability)
		}
	}
}

// What compact can't do is an error of one line, and changes nothing.
func TestCompactFails(t *testing.T) {
	dir := t.TempDir()
	holed(t, dir+"/x.lazy", text(3, 1<<20))
	write(t, dir+"/plain", text(1, 5000))
	fails(t, dir, 2, "lazyfs compact: --level 99: ", "compact", "--codec", "lz4", "--level", "99", "x.lazy")
	fails(t, dir, 2, "lazyfs compact: --level 99: ", "compact", "--level", "99", "x.lazy") // The codec is the store's.
	fails(t, dir, 2, "lazyfs compact: 2 arguments given", "compact", "x.lazy", "x.lazy")
	fails(t, dir, 3, "lazyfs compact: open store plain: not a page store", "compact", "plain")
	s, err := store.Open(dir+"/x.lazy", store.Options{Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fails(t, dir, 3, "lazyfs compact: open store x.lazy: store is locked", "compact", "x.lazy")
}

// A reader keeps its generation while the store is compacted; compact says that
// space is left, and gives it back when the reader is done.
func TestCompactWithReader(t *testing.T) {
	dir := t.TempDir()
	want := holed(t, dir+"/x.lazy", text(3, 12<<20))
	w, err := store.Open(dir+"/x.lazy", store.Options{Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.Open(dir+"/x.lazy", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// A newer generation than that of the reader.
	if _, err := w.WriteAt([]byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	before := sizeOf(t, dir+"/x.lazy")
	if out := must(t, dir, "compact", "x.lazy"); !strings.HasSuffix(out, "compact again then\n") {
		t.Errorf("compact beside a reader prints %q", out)
	}
	must(t, dir, "compact", "--codec", "zstd", "x.lazy")
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the reader sees other bytes, %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "compact", "x.lazy")
	copy(want, "new")
	if got := must(t, dir, "cat", "x.lazy"); got != string(want) || sizeOf(t, dir+"/x.lazy") > before*2/5 {
		t.Errorf("%d bytes of %d are left, content right: %v", sizeOf(t, dir+"/x.lazy"), before, got == string(want))
	}
}

// An interrupted or killed compact leaves a store that is whole.
func TestCompactInterrupted(t *testing.T) {
	dir := t.TempDir()
	want := holed(t, dir+"/x.lazy", text(3, 16<<20))
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGKILL} {
		before := generation(t, dir+"/x.lazy")
		c := command(dir, "compact", "--codec", "zstd", "--level", "9", "x.lazy")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "compact commits", func() bool { return generation(t, dir+"/x.lazy") > before })
		_ = c.Process.Signal(sig)
		_ = c.Wait()
		must(t, dir, "check", "x.lazy")
		if got := must(t, dir, "cat", "x.lazy"); got != string(want) {
			t.Errorf("after %v: other bytes", sig)
		}
	}
}

func generation(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum, err := store.Probe(f)
	if err != nil {
		t.Fatal(err)
	}
	return sum.Generation
}
