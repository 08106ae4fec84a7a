package uffdmap

import (
	"slices"
	"testing"

	"lazyfs/store"
)

// Whatever a Sync or a Protect has come to, or a pager that died in the middle of one, a
// frame that can be written without a fault is found by the next Protect and Snapshot.
func TestMapHalfProtected(t *testing.T) {
	m := mustMap(t, pack(t, make([]byte, 1<<20), store.CreateOptions{}), Options{Writable: true})
	shared, err := mapTable(m.table.fd, m.frames(), true)
	must(t, "map the table", err)
	defer shared.close()
	for name, forgotten := range map[string]bitmap{"dirty": shared.dirty, "written": shared.written} {
		m.Bytes()[0]++
		want := m.Bytes()[0]
		forgotten.clear(0)
		s, err := m.Snapshot()
		must(t, "snapshot", err)
		m.Bytes()[0]++
		var got [1]byte
		_, err = s.ReadAt(got[:], 0)
		must(t, "read", err)
		if got[0] != want {
			t.Errorf("no longer %s: snapshot has %d, want %d", name, got[0], want)
		}
		must(t, "close", s.Close())
	}
	shared.written.clear(0)
	must(t, "protect", m.Protect())
	m.Bytes()[0]++
	if got, want := slices.Collect(m.Written()), []Range{{0, m.FrameSize}}; !slices.Equal(got, want) {
		t.Errorf("written is %v, want %v", got, want)
	}
	must(t, "close", m.Close())
}
