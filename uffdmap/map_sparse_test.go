package uffdmap

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// mapSparse maps a new store that says it is large.
func mapSparse(t *testing.T, size int64, frame int) *Mapping {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse.lazy")
	s, err := store.Create(path, store.CreateOptions{FrameSize: frame})
	must(t, "create", err)
	must(t, "make it large", s.Truncate(size))
	must(t, "close", s.Close())
	return mustMap(t, path, Options{Writable: true})
}

// A store may say that it is as large as it likes: what is known of its frames takes
// memory for those that were used.
func TestMapSparse(t *testing.T) {
	const size, frame = 1 << 44, 4 << 10
	m := mapSparse(t, size, frame)
	var want []Range
	for _, off := range []int64{0, 1 << 41, size - frame} {
		m.Bytes()[off] = 1
		want = append(want, Range{off, frame})
	}
	if got := slices.Collect(m.Dirty()); !slices.Equal(got, want) {
		t.Errorf("dirty is %v, want %v", got, want)
	}
	if got := slices.Collect(m.Written()); !slices.Equal(got, want) {
		t.Errorf("written is %v, want %v", got, want)
	}
	if got := m.Stats().Dirty; got != int64(len(want))*frame {
		t.Errorf("%d bytes are dirty, want those of %d frames", got, len(want))
	}
	must(t, "protect", m.Protect())
	must(t, "sync", m.Sync())
	if got := slices.Collect(m.Dirty()); len(got) > 0 {
		t.Errorf("dirty is %v after Sync", got)
	}
	var st unix.Stat_t
	must(t, "stat", unix.Fstat(m.fds[fdTable], &st))
	if got := st.Blocks * 512; got > 256<<10 {
		t.Errorf("the table takes %d bytes", got)
	}
	must(t, "close", m.Close())
}

// So does what is known of a snapshot's frames.
func TestSnapshotSparse(t *testing.T) {
	const size, frame = 1 << 43, 4 << 10
	m := mapSparse(t, size, frame)
	for i := range int64(6) {
		at := i * size / 8
		s, err := m.Snapshot()
		must(t, "snapshot", err)
		m.Bytes()[at] = 1
		b := []byte{2}
		_, err = s.ReadAt(b, at)
		if err := errors.Join(err, s.Close()); err != nil || b[0] != 0 {
			t.Errorf("snapshot %d: byte is %d (%v), want 0", i, b[0], err)
		}
	}
	if got := status(helper(os.Getpid(), rolePager), "RssAnon"); got > 100<<20 {
		t.Errorf("the pager takes %d bytes", got)
	}
	must(t, "close", m.Close())
}
