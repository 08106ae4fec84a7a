package uffdmap

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// The limit holds after a succession and after a new start, and the frames that the
// dead pager has brought in leave before those that the next brings in. This one goes
// over the memory beside its other work, so a few of these may leave until that is done.
func TestMapLimitAfterKill(t *testing.T) {
	t.Run("pager", func(t *testing.T) {
		limitAfter(t, func() error { return unix.Kill(helper(os.Getpid(), rolePager), unix.SIGKILL) })
	})
	t.Run("both", func(t *testing.T) { limitAfter(t, killBoth) })
}

func limitAfter(t *testing.T, kill func() error) {
	t.Helper()
	const frame, limit = 16 << 10, 64
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
	left := 0
	for n := range limit / 2 {
		if !resident(m, int64(256+7*n)*frame) {
			left++
		}
	}
	if left > limit/4 {
		t.Errorf("%d of %d frames left before older ones", left, limit/2)
	}
	must(t, "close", m.Close())
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
