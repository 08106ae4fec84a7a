package fs

import (
	"testing"

	"golang.org/x/sys/unix"
)

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

// Nothing is opened any more once everything is closed, be it known already or not.
func TestNothingIsOpenedAfterEnd(t *testing.T) {
	m, _ := unmounted(t)
	a, b := m.lookUp(t, 1, "a"), m.lookUp(t, 1, "b")
	f, err := m.openFile(a, false)
	if err != nil {
		t.Fatal(err)
	}
	defer m.files.release(f)
	if err := m.files.closeAll(); err != nil {
		t.Error(err)
	}
	if _, err := m.openFile(a, true); err != unix.EIO {
		t.Errorf("open of what was open: %v, want %v", err, unix.EIO)
	}
	if _, err := m.pin(b); err != unix.EIO {
		t.Errorf("use of what was not: %v, want %v", err, unix.EIO)
	}
}
