package fs_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/fs"
)

// counters is what the mount tells of itself.
func (d *daemon) counters() (c fs.Counters) {
	d.t.Helper()
	b := make([]byte, 4096)
	n, err := unix.Getxattr(d.dir, fs.CountersAttr, b)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := json.Unmarshal(b[:n], &c); err != nil {
		d.t.Fatal(err)
	}
	return c
}

// A small file of a read-only mount comes with its open. What a later generation
// holds is what is read after the next open.
func TestPush(t *testing.T) {
	for _, size := range []int{1, 4095, 4096, 4097, 40_000, 64 << 10} {
		back := t.TempDir()
		old, renewed := text(1, size), text(2, size)
		packed := filepath.Join(back, "file.lazy")
		pack(t, packed, old)
		d := mountRO(t, back)
		same(t, d.path("file"), old)
		if n := d.counters().Reads; n != 0 {
			t.Errorf("%d bytes: %d requests to read them, want none", size, n)
		}
		rewrite(t, packed, renewed)
		same(t, d.path("file"), renewed)
		d.umount()
	}
}

// What is larger does not come with its open, nor does what others may be writing to.
func TestPushNothing(t *testing.T) {
	for _, spec := range []struct {
		size     int
		writable bool
	}{{64<<10 + 1, false}, {100, true}} {
		back := t.TempDir()
		content := text(1, spec.size)
		pack(t, filepath.Join(back, "file.lazy"), content)
		d := start(t, mountSpec{Source: back, Writable: spec.writable})
		same(t, d.path("file"), content)
		if d.counters().Reads == 0 {
			t.Errorf("%d bytes, writable %v: nobody asks for them", spec.size, spec.writable)
		}
		d.umount()
	}
}

// Who opens a file of a read-only mount reads it to its end, where others have made it
// longer or shorter since somebody has looked at it, or read it.
func TestOpenSeesNewSize(t *testing.T) {
	back := t.TempDir()
	packed, plain := filepath.Join(back, "file.lazy"), filepath.Join(back, "plain")
	pack(t, packed, nil)
	write(t, plain, nil)
	d := mountRO(t, back)
	look := []func(string){
		func(path string) { os.Stat(path) },
		func(path string) { os.ReadFile(path) },
	}
	for i, size := range []int{100_000, 300_000, 200, 100, 200, 70_000, 0, 1} {
		for j, l := range look {
			l(d.path("file"))
			l(d.path("plain"))
			content := text(uint64(i), size+j)
			rewrite(t, packed, content)
			write(t, plain, content)
			same(t, d.path("file"), content)
			same(t, d.path("plain"), content)
			until(t, "all is closed", func() bool { return d.counters().Files == 0 })
		}
	}
}

// A damaged frame of a small file is the error of who reads it, not of who opens it.
func TestPushDamaged(t *testing.T) {
	back := t.TempDir()
	packed := filepath.Join(back, "file.lazy")
	pack(t, packed, text(1, 60_000))
	b, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0xff // A frame lies there.
	write(t, packed, b)
	f, err := os.Open(mountRO(t, back).path("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err == nil {
		t.Errorf("read of a damaged file: %d bytes, want EIO", len(got))
	}
}
