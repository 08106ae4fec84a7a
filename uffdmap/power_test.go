package uffdmap

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
	"lazyfs/test/disktest"
)

// What was synced of a mapping is there when the power goes as soon as Sync has returned.
func TestSyncIsDurable(t *testing.T) {
	disk := disktest.New(t)
	data := content(1<<20, 1)
	change := func(b []byte, seed uint64) {
		for _, off := range []int{0, 100_000, 700_000} {
			copy(b[off:], content(5000, seed))
		}
	}
	for i, limit := range []int64{0, 256 << 10} {
		o := Options{Writable: true, MemoryLimit: limit}
		path := filepath.Join(disk.Dir, "x.lazy")
		os.Remove(path)
		must(t, "pack", packTo(path, data, store.CreateOptions{}))
		unix.Sync()
		want := append([]byte(nil), data...)

		m, err := Map(path, o)
		must(t, "Map", err)
		change(want, uint64(10+i))
		change(m.Bytes(), uint64(10+i))
		must(t, "Sync", m.Sync())
		same(t, "served mapping", stored(t, filepath.Join(disk.Cut(), "x.lazy")), want)
		must(t, "Close", m.Close())

		v, err := Open(path, o)
		must(t, "Open", err)
		change(want, uint64(20+i))
		for _, off := range []int64{0, 100_000, 700_000} {
			s, err := v.Edit(off, 5000)
			must(t, "Edit", err)
			copy(s.Bytes(), want[off:])
			s.Release()
		}
		must(t, "Sync", v.Sync())
		same(t, "View mapping", stored(t, filepath.Join(disk.Cut(), "x.lazy")), want)
		must(t, "Close", v.Close())
	}
}
