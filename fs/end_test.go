package fs

import "testing"

// A mount that has ended syncs nothing any more in the background.
func TestEndStopsSyncs(t *testing.T) {
	m, _ := unmounted(t)
	s := m.start(func() {}, "", "")
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	select {
	case <-s.stopSync:
	default:
		t.Error("it goes on to look for what is to be synced")
	}
}

// What the kernel had open, and has told nobody that it closed it, is closed in the end.
func TestLetGoClosesHandles(t *testing.T) {
	m, _ := unmounted(t)
	n := m.lookUp(t, 1, "a")
	f, err := m.openFile(n, false)
	if err != nil {
		t.Fatal(err)
	}
	m.handles.add(&handle{node: n, file: f, fd: -1})
	m.letGo()
	if c := m.counters(); c.Handles != 0 || c.Files != 0 || f.path != -1 {
		t.Errorf("%d handles and %d files are open, with the descriptor %d", c.Handles, c.Files, f.path)
	}
}
