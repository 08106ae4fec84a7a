package fs

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// written is the file of the store a of m, which somebody has open and has written to.
func written(t *testing.T, m *mount) *file {
	t.Helper()
	f, err := m.openFile(m.lookUp(t, 1, "a"), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.change(false, func(s *store.Store) error { _, err := s.WriteAt([]byte("x"), 0); return err }); err != nil {
		t.Fatal(err)
	}
	return f
}

// Who closes a file when more wait for their sync than may waits until they are closed, which
// is done at once.
func TestRoomIsMade(t *testing.T) {
	m, _ := unmounted(t)
	m.files.limit = 0
	m.files.release(written(t, m))
	if got := m.counters().Waiting; got != 1 {
		t.Fatalf("%d files wait, want 1", got)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	defer close(stop)
	go m.files.run(time.Hour, stop)
	go func() {
		m.files.waitForRoom()
		close(done)
	}()
	select {
	case <-done:
		if c := m.counters(); c.Waiting != 0 || c.Files != 0 {
			t.Errorf("%d files wait of %d that are open, want none", c.Waiting, c.Files)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody makes room")
	}
}

// Who waits because too many files wait for their sync goes on when fewer do since one of them
// is used again, of which nothing is closed then, and when the mount ends.
func TestRoomWithoutClose(t *testing.T) {
	for name, makeRoom := range map[string]func(*file){
		"one is used again": func(f *file) { f.m.files.get(f.shown) },
		"the mount ends":    func(f *file) { f.m.files.closeAll() },
	} {
		m := &mount{}
		m.files.init()
		m.files.limit = 0
		f, err := m.files.add(&file{m: m})
		if err != nil {
			t.Fatal(err)
		}
		m.files.leave(f, f.committed)
		done := make(chan struct{})
		go func() {
			m.files.waitForRoom()
			close(done)
		}()
		<-m.files.full
		makeRoom(f)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: it waits still", name)
		}
	}
}

// A sync in the background of a file that somebody uses leaves it to him alone, with the time
// of what was written, and with a failure that he is to be told.
func TestBackgroundSyncGivesBack(t *testing.T) {
	m, _ := unmounted(t)
	f := written(t, m)
	f.fail(unix.EIO)
	m.files.syncOlder(0)
	if !f.since.IsZero() || !f.committed() {
		t.Error("it is not synced")
	}
	if !f.settled {
		t.Error("the backing file has not the time that users see")
	}
	if err := f.sync(); err != unix.EIO {
		t.Errorf("fsync: %v, want %v", err, unix.EIO)
	}
	m.files.release(f)
	if c := m.counters(); c.Waiting != 1 {
		t.Errorf("%d files wait, want 1", c.Waiting)
	}
}
