package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/test/disktest"
)

// A file with the name of a store that holds nothing is an empty file, and becomes a store
// when it is written to.
func TestBlankStore(t *testing.T) {
	back := t.TempDir()
	for name, size := range map[string]int64{"empty": 0, "hole": 12288, "long": 1 << 40} {
		path := filepath.Join(back, name+".lazy")
		if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, size)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(back, "zeros.lazy"), make([]byte, 400_000))
	other := append(make([]byte, 400_000), 1) // It may be what is left of a store.
	write(t, filepath.Join(back, "other.lazy"), other)

	shown := []string{"empty", "hole", "long", "other.lazy", "zeros"}
	d := mountRO(t, back)
	if got := names(t, d.dir); !slices.Equal(got, shown) {
		t.Errorf("the folder shows %q, want %q", got, shown)
	}
	same(t, d.path("empty"), nil)
	same(t, d.path("hole"), nil)
	same(t, d.path("zeros"), nil)
	same(t, d.path("other.lazy"), other)
	d.umount()

	d = mountRW(t, back)
	same(t, d.path("long"), nil)
	f, err := os.OpenFile(d.path("long"), os.O_RDWR, 0) // Stays open while it is read, too.
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("end"), 100_000)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	write(t, d.path("hole"), text(1, 50_000))
	write(t, d.path("zeros"), text(2, 50_000))
	if err := os.Truncate(d.path("empty"), 10); err != nil {
		t.Fatal(err)
	}
	d.umount()
	if got := names(t, back); !slices.Equal(got, []string{"empty.lazy", "hole.lazy", "long.lazy", "other.lazy", "zeros.lazy"}) {
		t.Errorf("the folder of stores has %q", got)
	}
	for name, want := range map[string][]byte{
		"empty": make([]byte, 10), "hole": text(1, 50_000), "zeros": text(2, 50_000), "long": append(make([]byte, 100_000), "end"...),
	} {
		if got := unpack(t, filepath.Join(back, name+".lazy")); !slices.Equal(got, want) {
			t.Errorf("%s: %d bytes differ from the %d written", name, len(got), len(want))
		}
	}
	checkAll(t, back)
}

// A file that was made and written, and not synced when the power went, has its name
// afterwards, or none, and nothing else shows.
func TestUnsyncedKeepsItsName(t *testing.T) {
	disk := disktest.New(t)
	d := mountRW(t, disk.Dir)
	for name, size := range map[string]int{"large": 100_000, "small": 100, "none": 0} {
		write(t, d.path(name), text(1, size))
	}
	// The journal, and with it the names, are written for another file.
	other, err := os.Create(filepath.Join(disk.Dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Fsync(int(other.Fd())), other.Close()); err != nil {
		t.Fatal(err)
	}
	back := disk.Cut()
	after := mountRW(t, back)
	for _, name := range names(t, after.dir) {
		if filepath.Ext(name) == ".lazy" {
			t.Errorf("after the power cut there is %s", name)
		}
	}
	write(t, after.path("large"), text(2, 50_000))
	same(t, after.path("large"), text(2, 50_000))
	after.umount()
	checkAll(t, back)
	if got := unpack(t, filepath.Join(back, "large.lazy")); len(got) != 50_000 {
		t.Errorf("the store of the new file has %d bytes, want 50000", len(got))
	}
}
