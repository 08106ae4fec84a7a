package uffdmap

import (
	"testing"

	"lazyfs/store"
)

// The limit holds after a succession and after a new start, and the frames that the
// dead pager has brought in leave before those that the next brings in. This one goes
// over the memory beside its other work, so a few of these may leave until that is done.
func TestMapLimitAfterKill(t *testing.T) {
	for name, kill := range map[string]func() error{
		"pager": killPager,
		"both":  killBoth,
	} {
		t.Run(name, func(t *testing.T) {
			// A pager that has just begun may be asked for new frames before it has found the old.
			left := limitAfter(t, kill)
			for tries := 1; left > limitFrames/4 && tries < 20; tries++ {
				left = limitAfter(t, kill)
			}
			if left > limitFrames/4 {
				t.Errorf("%d of %d frames left before older ones", left, limitFrames/2)
			}
		})
	}
}

// limitFrames is the limit of limitAfter.
const limitFrames = 64

// limitAfter touches half as many new frames as the limit allows after kill, and returns
// how many of them left again.
func limitAfter(t *testing.T, kill func() error) (left int) {
	t.Helper()
	const frame, limit = 16 << 10, limitFrames
	data := content(512*frame, 71)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{Private: true, MemoryLimit: limit * frame})
	same(t, "first half", m.Bytes()[:256*frame], data[:256*frame])
	must(t, "kill", kill())
	must(t, "protect, by another pager", m.Protect())
	before := m.Stats().Evicted
	for n := range limit / 2 {
		at := (256 + 7*n) * frame // Not in sequence, which would bring in others.
		if m.Bytes()[at] != data[at] {
			t.Fatalf("byte %#x is wrong", at)
		}
	}
	s := m.Stats()
	if most := int64(limit*frame + 4*maxRun); s.Resident > most {
		t.Errorf("%d bytes are resident, want at most %d", s.Resident, most)
	}
	if s.Evicted == before {
		t.Error("nothing was evicted after the kill")
	}
	for n := range limit / 2 {
		if !resident(m, int64(256+7*n)*frame) {
			left++
		}
	}
	must(t, "close", m.Close())
	return left
}

// resident says that the page at off is in memory.
func resident(m *Mapping, off int64) bool {
	for r := range m.Resident() {
		if r.Off <= off && off < r.End() {
			return true
		}
	}
	return false
}
