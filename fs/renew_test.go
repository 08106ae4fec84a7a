package fs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What is known of a file from before the end of a change through the mount is looked at
// again before it counts as a change by others.
func TestRenewLooksAgain(t *testing.T) {
	m, back := unmounted(t)
	n := m.lookUp(t, 1, "a")
	dir, err := m.useFolder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.done()
	now, err := m.find(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	before := now
	before.size, before.st.Mtim.Sec = 5000, 1
	e := before
	if err := m.renew(dir, &e); err != nil {
		t.Fatal(err)
	}
	if e.toTell() != now.toTell() {
		t.Errorf("it is shown with %+v, want %+v", e.toTell(), now.toTell())
	}
	if m.nodes.shownAs(n.shown()) != n {
		t.Error("another node is shown although nobody else has changed the file")
	}
	if err := os.Rename(filepath.Join(back, "b.lazy"), filepath.Join(back, "a.lazy")); err != nil {
		t.Fatal(err)
	}
	if err := m.renew(dir, &before); err != unix.ESTALE {
		t.Errorf("where another file has its name by now: %v, want %v", err, unix.ESTALE)
	}
}
