package uffdmap

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// For each stream that wants another worker one is woken. It counts as one that loads, and
// does not when it has come to the end.
func TestAskAhead(t *testing.T) {
	w, m, _ := newLoneWorker(t, spec{})
	pl := m.pool
	for _, s := range m.ahead.streams[:2] {
		pl.askAhead(m, s)
	}
	for left := 1; left >= 0; left-- {
		var woken [8]byte
		_, err := unix.Read(pl.help, woken[:])
		must(t, "wake a worker", err)
		w.helpOut()
		if len(pl.aheads) != left || pl.loading != 0 {
			t.Errorf("%d streams wait and %d workers load, want %d and none", len(pl.aheads), pl.loading, left)
		}
	}
}

// Whether touches wait for stores that do not answer is looked at again when one load has
// ended: the next one may last.
func TestRelieveAgain(t *testing.T) {
	_, m, _ := newLoneWorker(t, spec{})
	pl := m.pool
	pl.loading, pl.loaded = len(pl.workers)-1, 1
	pl.queueLoads(m, []fault{{page: 0}})
	pl.relieve(0)
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if len(pl.workers) != 4 || !pl.checking {
		t.Errorf("there are %d workers, and it is looked at again: %t; want 4 and true", len(pl.workers), pl.checking)
	}
	pl.queue = nil
}

// A source that is read calls meanwhile.
type interruptedSource struct {
	store.Source
	meanwhile func()
}

func (s interruptedSource) ReadFrame(n int64, dst []byte) (bool, error) {
	s.meanwhile()
	return s.Source.ReadFrame(n, dst)
}

// A worker that has filled ahead answers touches that came meanwhile: others may have found
// too many at work.
func TestTouchedMeanwhile(t *testing.T) {
	w, m, _ := newLoneWorker(t, spec{})
	var once sync.Once
	m.source = interruptedSource{m.source, func() {
		once.Do(func() { m.pool.queueLoads(m, []fault{{page: 0}}) })
	}}
	s := m.ahead.streams[0]
	s.next, s.end = 8, 9
	m.pool.askAhead(m, s)
	w.helpOut()
	if m.absent(8) || !m.present(0) {
		t.Errorf("frame 8 is absent: %t, page 0 present: %t; want false and true", m.absent(8), m.present(0))
	}
}
