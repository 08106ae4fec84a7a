package test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is packed and unpacked is the same file: every byte, mode and time, for
// every codec and for sizes around those of pages and frames.
func TestPackUnpack(t *testing.T) {
	dir := t.TempDir()
	when := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	for _, codec := range []string{"lz4", "zstd", "gzip", "raw"} {
		for _, size := range []int{0, 1, 2000, 4095, 4096, 4097, 16384, 16385, 3<<20 + 17} {
			plain := text(uint64(size), size)
			write(t, dir+"/plain", plain)
			if err := os.Chmod(dir+"/plain", 0o640); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(dir+"/plain", when, when); err != nil {
				t.Fatal(err)
			}
			// Flags stand before, between and behind the arguments.
			must(t, dir, "pack", "--force", "plain", "--codec", codec, "x.lazy", "--frame=16K")
			must(t, dir, "check", "x.lazy")
			must(t, dir, "unpack", "x.lazy", "back", "--force")
			if got := read(t, dir+"/back"); !bytes.Equal(got, plain) {
				t.Errorf("%s, %d bytes: unpacked other bytes", codec, size)
			}
			for _, name := range []string{"x.lazy", "back"} {
				info, err := os.Stat(dir + "/" + name)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode() != 0o640 || !info.ModTime().Equal(when) {
					t.Errorf("%s: mode %v, time %v, want 0640, %v", name, info.Mode(), info.ModTime(), when)
				}
			}
			if got := must(t, dir, "unpack", "x.lazy", "-"); got != string(plain) {
				t.Errorf("%s, %d bytes: unpack to standard output gave other bytes", codec, size)
			}
		}
	}
	if got := list(t, dir); !slices.Equal(got, []string{"back", "plain", "x.lazy"}) {
		t.Errorf("folder holds %q", got)
	}
}

// Standard input can be packed, as a pipe and as a file with holes, and the new
// store has the mode of a new file.
func TestPackStdin(t *testing.T) {
	dir := t.TempDir()
	plain := text(7, 1<<20)
	c := command(dir, "pack", "-", "x.lazy", "--quiet")
	c.Stdin = bytes.NewReader(plain) // a pipe
	if r := finish(t, c); r != (result{}) {
		t.Fatalf("pack of a pipe: %+v, want success and silence", r)
	}
	if got := must(t, dir, "cat", "x.lazy"); got != string(plain) {
		t.Error("pack of a pipe: other bytes")
	}
	mask := unix.Umask(0)
	unix.Umask(mask)
	info, err := os.Stat(dir + "/x.lazy")
	if err != nil {
		t.Fatal(err)
	}
	if want := os.FileMode(0o666 &^ mask); info.Mode() != want {
		t.Errorf("mode is %v, want %v", info.Mode(), want)
	}

	sparse, err := os.Create(dir + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	if err := sparse.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	c = command(dir, "pack", "-", "sparse.lazy", "--quiet")
	c.Stdin = sparse
	if r := finish(t, c); r != (result{}) {
		t.Fatalf("pack of a sparse file: %+v, want success and silence", r)
	}
}

// The summary tells sizes and ratio, in words, as JSON, or not at all.
func TestPackSummary(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", bytes.Repeat([]byte("lazy "), 1<<20))
	if got := must(t, dir, "pack", "plain", "a.lazy"); !strings.HasPrefix(got, "a.lazy: 5.0 MiB in ") || strings.Count(got, "\n") != 1 {
		t.Errorf("summary is %q", got)
	}
	var sum struct {
		Store          string
		Files          int
		Plain          int64 `json:"plain_bytes"`
		Disk           int64 `json:"disk_bytes"`
		Ratio, Seconds float64
	}
	if err := json.Unmarshal([]byte(must(t, dir, "pack", "--json", "plain", "b.lazy")), &sum); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir + "/b.lazy")
	if err != nil {
		t.Fatal(err)
	}
	if sum.Store != "b.lazy" || sum.Files != 1 || sum.Plain != 5<<20 || sum.Disk != info.Sys().(*syscall.Stat_t).Blocks*512 || sum.Ratio < 2 || sum.Seconds <= 0 {
		t.Errorf("summary is %+v, store file is %+v", sum, info.Sys())
	}
	if got := must(t, dir, "pack", "--quiet", "plain", "c.lazy"); got != "" {
		t.Errorf("pack --quiet prints %q", got)
	}
}

// By the ratio pack means what info means, of a file and of a folder.
func TestPackRatio(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/src/small", text(1, 100))
	write(t, dir+"/src/text", text(2, 20000))
	write(t, dir+"/src/noise", noise(3, 70000))
	write(t, dir+"/src/holes", text(4, 50000))
	if err := os.Truncate(dir+"/src/holes", 1<<20); err != nil {
		t.Fatal(err)
	}
	ratio := func(args ...string) float64 {
		var sum struct{ Ratio float64 }
		if err := json.Unmarshal([]byte(must(t, dir, append([]string{"pack", "--json"}, args...)...)), &sum); err != nil {
			t.Fatal(err)
		}
		return sum.Ratio
	}
	var data, used float64
	must(t, dir, "pack", "-q", "src", "stores")
	for _, name := range list(t, dir+"/src") {
		got := ratio("src/"+name, name+".lazy")
		var infos []struct {
			Ratio float64
			Data  float64 `json:"data_bytes"`
			File  float64 `json:"file_bytes"`
			Free  float64 `json:"free_bytes"`
		}
		if err := json.Unmarshal([]byte(must(t, dir, "info", "--json", name+".lazy", "stores/"+name+".lazy")), &infos); err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			if got != i.Ratio {
				t.Errorf("%s: pack tells the ratio %v, info %v", name, got, i.Ratio)
			}
		}
		data, used = data+infos[1].Data, used+infos[1].File-infos[1].Free
	}
	if got := ratio("src", "again"); got != data/used {
		t.Errorf("pack of a folder tells the ratio %v, want %v", got, data/used)
	}
	got := must(t, dir, "pack", "src/text", "text2.lazy")
	if want := fmt.Sprintf("text2.lazy: 19.5 KiB in %.1f KiB, ratio ", 20000/ratio("src/text", "text3.lazy")/1024); !strings.HasPrefix(got, want) {
		t.Errorf("pack tells %q, want %q: the two sizes give the ratio", got, want)
	}
}

// A folder of gzip page files is packed page by page; absent pages are zeros.
func TestPackPages(t *testing.T) {
	dir := t.TempDir()
	want := make([]byte, 6*4096)
	for _, page := range []int{0, 2, 5} {
		plain := text(uint64(page), 4096)
		copy(want[page*4096:], plain)
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, fmt.Sprintf("%s/pages/tmp%d.gz", dir, page), b.Bytes())
	}
	must(t, dir, "pack", "--pages", "tmp%d.gz", "pages", "x.lazy")
	if got := must(t, dir, "cat", "x.lazy"); got != string(want) {
		t.Error("packed pages have other bytes")
	}
	write(t, dir+"/pages/tmp3.gz", []byte("no gzip"))
	fails(t, dir, 3, "lazyfs pack: ", "pack", "--pages", "tmp%d.gz", "pages", "y.lazy")
	if got := list(t, dir); !slices.Equal(got, []string{"pages", "x.lazy"}) {
		t.Errorf("folder holds %q", got)
	}
}

// A file of 1 TiB with 3 MiB of data is packed and unpacked in a moment, and its
// holes stay holes.
func TestBigSparseFile(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(dir + "/plain")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1<<40 - 5); err != nil {
		t.Fatal(err)
	}
	island := noise(3, 1<<20)
	islands := []int64{0, 1<<39 + 4096, 1<<40 - 5 - int64(len(island))}
	for _, off := range islands {
		if _, err := f.WriteAt(island, off); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	must(t, dir, "pack", "plain", "x.lazy")
	must(t, dir, "unpack", "x.lazy", "back")
	if spent := time.Since(start); spent > patience {
		t.Errorf("pack and unpack took %v", spent)
	}
	for _, name := range []string{"x.lazy", "back"} {
		info, err := os.Stat(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if disk := info.Sys().(*syscall.Stat_t).Blocks * 512; disk > 8<<20 {
			t.Errorf("%s takes %d bytes of the disk", name, disk)
		}
	}
	back, err := os.Open(dir + "/back")
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	got := make([]byte, len(island))
	for _, off := range islands {
		if _, err := back.ReadAt(got, off); err != nil || !bytes.Equal(got, island) {
			t.Errorf("unpacked data at %#x differs (%v)", off, err)
		}
	}
	if _, err := back.ReadAt(got, 1<<38); err != nil || !bytes.Equal(got, make([]byte, len(got))) {
		t.Errorf("unpacked hole is not zero (%v)", err)
	}
}

// A full disk is named as the cause, and nothing remains on it.
func TestNoSpace(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", noise(1, 8<<20))
	write(t, dir+"/folder/plain", noise(2, 8<<20)) // packed in its place
	write(t, dir+"/small/plain", noise(3, 3<<20))  // packed in memory
	must(t, dir, "pack", "plain", "x.lazy")
	must(t, dir, "pack", "small", "stores")
	disk := dir + "/disk"
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(disk, 0)
	for _, args := range [][]string{
		{"pack", "plain", "disk/x.lazy"},
		{"pack", "folder", "disk/folder"},
		{"pack", "small", "disk/small"},
		{"unpack", "x.lazy", "disk/plain"},
		{"unpack", "stores", "disk/back"},
		{"copy", "x.lazy", "disk/y.lazy"},
	} {
		r := lazyfs(t, dir, args...)
		failed(t, r, 3, "lazyfs "+args[0]+": ")
		if !strings.Contains(r.err, "no space left on device") {
			t.Errorf("lazyfs %q says %q, want no space left on device", args, r.err)
		}
		if got := list(t, disk); len(got) != 0 {
			t.Errorf("lazyfs %q left %q", args, got)
		}
	}
}

// On a mount of a full disk it is the end of a file that tells.
func TestNoSpaceOnMount(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/folder/plain", noise(1, 3<<20))
	must(t, dir, "pack", "folder", "stores")
	disk := dir + "/disk"
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	mountStore(t, dir, "--rw", "disk", "mnt")
	for _, args := range [][]string{
		{"pack", "folder", "mnt/new"},
		{"unpack", "stores", "mnt/new"},
	} {
		r := lazyfs(t, dir, args...)
		failed(t, r, 3, "lazyfs "+args[0]+": ")
		if !strings.Contains(r.err, "no space left on device") {
			t.Errorf("lazyfs %q says %q, want no space left on device", args, r.err)
		}
		if got := list(t, disk); len(got) != 0 {
			t.Errorf("lazyfs %q left %q", args, got)
		}
	}
}
