package fs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// fallocate(2) makes a file longer, with zeros, unless it is to keep the size: that is there
// once the file system is mounted anew.
func TestFallocateExtends(t *testing.T) {
	back := t.TempDir()
	for _, mode := range []uint32{0, unix.FALLOC_FL_ZERO_RANGE} {
		for _, keep := range []uint32{0, unix.FALLOC_FL_KEEP_SIZE} {
			write(t, filepath.Join(back, "plain"), text(1, 10_000))
			d := mountRW(t, back)
			write(t, d.path("store"), text(1, 10_000))
			want := text(1, 10_000)
			if mode != 0 {
				clear(want[9000:])
			}
			if keep == 0 {
				want = append(want, make([]byte, 20_000)...)
			}
			for _, name := range []string{"plain", "store"} {
				f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := unix.Fallocate(int(f.Fd()), mode|keep, 9000, 21_000); err != nil {
					t.Fatal(err)
				}
				same(t, d.path(name), want)
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			d.umount()
			same(t, filepath.Join(back, "plain"), want)
			if got := unpack(t, filepath.Join(back, "store.lazy")); !bytes.Equal(got, want) {
				t.Errorf("mode %#x: the store has %d bytes, which differ from the %d wanted at %#x", mode|keep, len(got), len(want), firstDiff(got, want))
			}
		}
	}
}
