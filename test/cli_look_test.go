package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lazyfs/store"
)

func sum(b []byte) [32]byte { return sha256.Sum256(b) }

// damageFrame flips a bit in the stored bytes of a frame.
func damageFrame(t *testing.T, path string, n int64) {
	t.Helper()
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	info, err := s.FrameInfo(n)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := info.Off + info.Stored/2
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// check names each damaged range and exits with 1; unpack and cat name it too,
// fail, and leave no file. What is not damaged can still be read.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 10*16384)
	write(t, dir+"/plain", plain)
	must(t, dir, "pack", "plain", "x.lazy")
	must(t, dir, "pack", "plain", "good.lazy")
	damageFrame(t, dir+"/x.lazy", 2)
	damageFrame(t, dir+"/x.lazy", 7)

	r := lazyfs(t, dir, "check", "x.lazy", "good.lazy")
	failed(t, r, 1, "lazyfs check: 1 store damaged: 2 damaged ranges in 2 stores")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	want := []string{
		"x.lazy: frame 2 at offset ",
		"x.lazy: frame 7 at offset ",
		"good.lazy: ok",
	}
	if len(lines) != len(want) {
		t.Fatalf("check prints %q", r.out)
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], w) {
			t.Errorf("line %d of check is %q, want %q first", i, lines[i], w)
		}
	}
	if !strings.Contains(lines[0], "plain bytes 0x8000 to 0xc000") {
		t.Errorf("line 0 of check is %q, want the plain range", lines[0])
	}

	r = lazyfs(t, dir, "check", "--json", "x.lazy", "good.lazy")
	var results []struct {
		Store   string
		OK      bool
		Damaged []struct {
			Part   string
			Offset int64 `json:"plain_offset"`
			Length int64 `json:"plain_length"`
		}
	}
	if err := json.Unmarshal([]byte(r.out), &results); err != nil {
		t.Fatal(err)
	}
	if r.code != 1 || len(results) != 2 || results[0].OK || !results[1].OK || len(results[0].Damaged) != 2 ||
		results[0].Damaged[1].Offset != 7*16384 || results[0].Damaged[1].Length != 16384 || results[0].Damaged[1].Part != "frame 7" {
		t.Errorf("check --json gives exit code %d, %s", r.code, r.out)
	}

	fails(t, dir, 3, "lazyfs unpack: damaged store: x.lazy: frame ", "unpack", "x.lazy", "back")
	if got := list(t, dir); !slices.Equal(got, []string{"good.lazy", "plain", "x.lazy"}) {
		t.Errorf("folder holds %q", got)
	}
	fails(t, dir, 3, "lazyfs cat: damaged store: x.lazy: frame 2 ", "cat", "x.lazy", "32K", "1")
	if got := must(t, dir, "cat", "x.lazy", "48K", "64K"); got != string(plain[48<<10:112<<10]) {
		t.Error("cat between two damaged frames gives other bytes")
	}
}

// A file that can't be checked keeps no other from being checked. All are reported, and
// the exit code is 3, whether others are damaged or not.
func TestCheckGoesOn(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 10*16384))
	must(t, dir, "pack", "plain", "x.lazy")
	must(t, dir, "pack", "plain", "good.lazy")
	damageFrame(t, dir+"/x.lazy", 2)

	const causes = "lazyfs check: open store plain: not a page store; open none: no such file or directory"
	r := lazyfs(t, dir, "check", "plain", "good.lazy", "none")
	failed(t, r, 3, causes+"\n")
	if r.out != "good.lazy: ok\n" {
		t.Errorf("check prints %q", r.out)
	}
	r = lazyfs(t, dir, "check", "plain", "x.lazy", "none", "good.lazy")
	failed(t, r, 3, causes+"; 1 store damaged: 1 damaged range in 2 stores\n")
	if !strings.HasPrefix(r.out, "x.lazy: frame 2 at offset ") || !strings.HasSuffix(r.out, "\ngood.lazy: ok\n") {
		t.Errorf("check prints %q", r.out)
	}

	r = lazyfs(t, dir, "check", "--json", "plain", "x.lazy", "none", "good.lazy")
	failed(t, r, 3, causes)
	var results []struct {
		Store, Error string
		OK           bool
		Damaged      []struct{ Part string }
	}
	if err := json.Unmarshal([]byte(r.out), &results); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range results {
		got = append(got, fmt.Sprintf("%s %v %d %s", s.Store, s.OK, len(s.Damaged), s.Error))
	}
	want := []string{
		"plain false 0 open store plain: not a page store",
		"x.lazy false 1 ",
		"none false 0 open none: no such file or directory",
		"good.lazy true 0 ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("check --json gives %q, want %q", got, want)
	}
}

// A store whose every beginning is destroyed is damaged, and check says so.
func TestCheckDamagedStart(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 100000))
	must(t, dir, "pack", "plain", "x.lazy")
	f, err := os.OpenFile(dir+"/x.lazy", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// All but the magic.
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 8192-16), 16); err != nil {
		t.Fatal(err)
	}
	r := lazyfs(t, dir, "check", "x.lazy")
	failed(t, r, 1, "lazyfs check: 1 store damaged: ")
	if !strings.HasPrefix(r.out, "x.lazy: superblock at offset ") {
		t.Errorf("check prints %q", r.out)
	}
	fails(t, dir, 3, "lazyfs info: ", "info", "x.lazy")
	// The others are shown all the same.
	write(t, dir+"/y", []byte("y"))
	must(t, dir, "pack", "--quiet", "y", "y.lazy")
	r = lazyfs(t, dir, "info", "x.lazy", "y.lazy")
	failed(t, r, 3, "lazyfs info: ")
	if !strings.Contains(r.out, "y.lazy") {
		t.Errorf("info of a damaged and a sound store prints %q", r.out)
	}
}

// cat gives exactly the range it is asked for.
func TestCat(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 3<<20+100)
	write(t, dir+"/plain", plain)
	must(t, dir, "pack", "plain", "x.lazy")
	for _, c := range []struct {
		args     string
		from, to int
	}{
		{"x.lazy", 0, len(plain)},
		{"x.lazy 0 0", 0, 0},
		{"x.lazy 1M", 1 << 20, len(plain)},
		{"x.lazy 0x1001 5", 4097, 4102},
		{"x.lazy 1048575 2M", 1<<20 - 1, 3<<20 - 1},
		{"x.lazy 3M 1G", 3 << 20, len(plain)},
		{"x.lazy 3145828", len(plain), len(plain)},
	} {
		if got := must(t, dir, append([]string{"cat"}, strings.Fields(c.args)...)...); got != string(plain[c.from:c.to]) {
			t.Errorf("cat %s gives other bytes (%d)", c.args, len(got))
		}
	}
}

// info tells the truth, in words and as JSON.
func TestInfo(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 10*65536))
	if err := os.Truncate(dir+"/plain", 20*65536); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "pack", "--codec", "zstd", "--frame", "64K", "plain", "x.lazy")
	var infos []struct {
		Store, Codec string
		Plain        int64 `json:"plain_bytes"`
		Data         int64 `json:"data_bytes"`
		File         int64 `json:"file_bytes"`
		FrameSize    int   `json:"frame_size"`
		Ratio        float64
		Kinds        map[string]int64 `json:"frames_by_kind"`
	}
	if err := json.Unmarshal([]byte(must(t, dir, "info", "--json", "x.lazy", "x.lazy")), &infos); err != nil {
		t.Fatal(err)
	}
	stat, err := os.Stat(dir + "/x.lazy")
	if err != nil {
		t.Fatal(err)
	}
	if len(infos) != 2 {
		t.Fatalf("info of two stores gives %d objects", len(infos))
	}
	i := infos[0]
	if i.Store != "x.lazy" || i.Codec != "zstd" || i.Plain != 20*65536 || i.Data != 10*65536 || i.File != stat.Size() ||
		i.FrameSize != 65536 || i.Kinds["zstd"] != 10 || i.Kinds["hole"] != 10 || i.Ratio < 1.5 {
		t.Errorf("info gives %+v", i)
	}
	out := must(t, dir, "info", "x.lazy")
	for _, part := range []string{"x.lazy\n", "1310720", "655360", "zstd", "65536", "10 hole, 10 zstd", "generation"} {
		if !strings.Contains(out, part) {
			t.Errorf("info does not show %q:\n%s", part, out)
		}
	}
}

// A copy is a sound store with the same bytes, mode and times, also of a store
// that a mount has open for writing.
func TestCopy(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 1<<20)
	write(t, dir+"/plain", plain)
	must(t, dir, "pack", "plain", "x.lazy")
	if err := os.Chmod(dir+"/x.lazy", 0o604); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "copy", "x.lazy", "y.lazy")
	must(t, dir, "check", "y.lazy")
	if got := must(t, dir, "cat", "y.lazy"); got != string(plain) {
		t.Error("copy has other bytes")
	}
	a, errA := os.Stat(dir + "/x.lazy")
	b, errB := os.Stat(dir + "/y.lazy")
	if errA != nil || errB != nil || a.Mode() != b.Mode() || !a.ModTime().Equal(b.ModTime()) {
		t.Errorf("copy has other mode or times: %v, %v (%v, %v)", a, b, errA, errB)
	}

	w, err := store.Open(filepath.Join(dir, "x.lazy"), store.Options{Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteAt([]byte("NEW"), 1000); err != nil {
		t.Fatal(err)
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt([]byte("newer"), 2000); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "copy", "--force", "x.lazy", "y.lazy")
	copy(plain[1000:], "NEW")
	if got := must(t, dir, "cat", "y.lazy"); got != string(plain) {
		t.Error("copy of a store in use is not its last generation")
	}
}

// dump shows every part of a store.
func TestDump(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 100000))
	must(t, dir, "pack", "plain", "x.lazy")
	out := must(t, dir, "dump", "x.lazy")
	for _, part := range []string{"superblock", "frame", "index"} {
		if !strings.Contains(out, part) {
			t.Errorf("dump does not show the %s:\n%.2000s", part, out)
		}
	}
}
