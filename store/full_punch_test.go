package store

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// nearlyFull leaves room bytes in the file system of dir.
func nearlyFull(t *testing.T, dir string, room int64) {
	t.Helper()
	fillDisk(t, dir)
	other := filepath.Join(dir, "other")
	st, err := os.Stat(other)
	must(t, err)
	must(t, os.Truncate(other, st.Size()-room))
}

// fullLeaves is a store of so many full leaves on a disk of 64 MiB, whose log has so
// many blocks.
func fullLeaves(t *testing.T, leaves, logged int) (s *Store, dir string) {
	t.Helper()
	dir = smallDisk(t, "64m")
	s, err := Create(filepath.Join(dir, "s.lazy"), CreateOptions{FrameSize: 4 << 10})
	must(t, err)
	p := text(4096, "frame ")
	for n := range leaves * fanout {
		copy(p, noise(200, byte(n)))
		mustWrite(t, s, p, int64(n)<<12)
	}
	must(t, s.Sync())
	must(t, s.checkpointNow())
	for range logged {
		copy(p, noise(200, 1))
		mustWrite(t, s, p, 0)
		must(t, s.Sync())
	}
	s.mu.Lock()
	s.punchFree(true)
	s.mu.Unlock()
	return s, dir
}

// On a disk with little room left frames can be punched one by one, all over the
// store: what is accepted can be synced, also when the log is too long to take it, and
// where one is refused, a Sync makes room for it.
func TestPunchOnFullDisk(t *testing.T) {
	for _, c := range []struct{ leaves, every, logged int }{
		{4, 1, 0}, {16, 1, 0}, {16, 16, 0}, {4, 1 << 20, 0}, {16, 1 << 20, 0},
		{16, 1, maxLogBlocks - 20}, {16, 30, maxLogBlocks - 2}, {16, 1 << 20, maxLogBlocks - 2},
	} {
		s, dir := fullLeaves(t, c.leaves, c.logged)
		nearlyFull(t, dir, 128<<10)
		want := make([]byte, s.Size())
		_, err := s.ReadAt(want, 0)
		must(t, err)
		punched, refused := 0, 0
		for i := range 2000 {
			n := i%c.leaves*fanout + i/c.leaves*2 + 1
			err := s.Punch(int64(n)<<12, 4096)
			if isNoSpace(err) {
				refused++
				must(t, s.Sync())
				err = s.Punch(int64(n)<<12, 4096)
			}
			if isNoSpace(err) {
				break
			}
			must(t, err)
			clear(want[n<<12 : (n+1)<<12])
			punched++
			if i%c.every == c.every-1 {
				must(t, s.Sync())
			}
		}
		t.Logf("%+v: %d punched, %d refused at first, %d log blocks, %d nodes", c, punched, refused, len(s.logBlocks), s.changing.len())
		must(t, s.Close())
		s, err = Open(s.Path(), Options{Writable: true})
		must(t, err)
		same(t, s, want)
		must(t, s.Check(context.Background(), func(d *DamageError) { t.Error(d) }, nil))
		must(t, s.Close())
	}
}

// A store on a disk without any room can be emptied, and that gives its space back.
func TestEmptyOnFullDisk(t *testing.T) {
	s, dir := fullLeaves(t, 4, 3)
	must(t, s.Close())
	fillDisk(t, dir)
	s, err := Open(s.Path(), Options{Writable: true})
	must(t, err)
	must(t, s.Truncate(0))
	must(t, s.Sync())
	mustWrite(t, s, noise(512<<10, 7), 0)
	must(t, s.Close())
}

// A store that was closed, and opened when its disk had no room at all, can be punched
// and cut, at first by whole frames.
func TestShrinkOnFullDisk(t *testing.T) {
	for _, packed := range []bool{false, true} {
		s, dir := fullLeaves(t, 4, 3)
		must(t, s.Close())
		if packed {
			from, err := Open(s.Path(), Options{})
			must(t, err)
			f, err := os.Create(filepath.Join(dir, "packed.lazy"))
			must(t, err)
			must(t, Copy(context.Background(), f, from, nil))
			must(t, from.Close())
			must(t, os.Rename(f.Name(), s.Path()))
			must(t, f.Close())
		}
		fillDisk(t, dir)
		s, err := Open(s.Path(), Options{Writable: true})
		must(t, err)
		want := make([]byte, s.Size())
		_, err = s.ReadAt(want, 0)
		must(t, err)
		for n := range 10 {
			from, to := (n*300+1)<<12, (n*300+101)<<12
			must(t, s.Punch(int64(from), int64(to-from)))
			must(t, s.Sync())
			clear(want[from:to])
		}
		want = want[:3<<22]
		must(t, s.Truncate(int64(len(want))))
		must(t, s.Sync())
		want = want[:len(want)-1000]
		must(t, s.Truncate(int64(len(want))))
		must(t, s.Close())
		s, err = Open(s.Path(), Options{Writable: true})
		must(t, err)
		same(t, s, want)
		must(t, s.Check(context.Background(), func(d *DamageError) { t.Error(d) }, nil))
		must(t, s.Close())
	}
}
