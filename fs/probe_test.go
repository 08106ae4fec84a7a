package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A listing shows each store of a large folder with its own size, and what only has
// the name of a store as it is, also when the daemon may have few files open.
func TestListMany(t *testing.T) {
	back := t.TempDir()
	want := map[string]int64{"fifo.lazy": 0}
	if err := unix.Mkfifo(filepath.Join(back, "fifo.lazy"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 150 {
		name, size := fmt.Sprintf("file%d", i), 1+7*i
		backing := filepath.Join(back, name+".lazy")
		if i%10 == 0 {
			name += ".lazy"
			write(t, backing, text(uint64(i), size))
		} else {
			pack(t, backing, text(uint64(i), size))
		}
		want[name] = int64(size)
	}
	for _, descriptors := range []uint64{0, 160} {
		d := start(t, mountSpec{Source: back, Descriptors: descriptors})
		found, err := os.ReadDir(d.dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != len(want) {
			t.Errorf("%d names, want %d", len(found), len(want))
		}
		for _, f := range found {
			info, err := f.Info()
			if err != nil {
				t.Fatal(err)
			}
			if size, ok := want[f.Name()]; !ok || info.Size() != size {
				t.Errorf("%s is listed with %d bytes, want %d", f.Name(), info.Size(), size)
			}
		}
		d.umount()
	}
}
