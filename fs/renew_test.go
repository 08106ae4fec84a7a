package fs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
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

// A node that somebody uses is not replaced, and one that nobody does is.
func TestReplaceUnused(t *testing.T) {
	m, _ := unmounted(t)
	n := m.lookUp(t, 1, "a")
	f, err := m.pin(n)
	if err != nil {
		t.Fatal(err)
	}
	if m.nodes.replace(n, &m.files) || m.nodes.isReplaced(n) || m.nodes.shownAs(n.shown()) != n {
		t.Error("a node in use is replaced")
	}
	m.files.release(f)
	if !m.nodes.replace(n, &m.files) || !m.nodes.isReplaced(n) || m.nodes.shownAs(n.shown()) != nil {
		t.Error("a node that nobody uses is not replaced")
	}
}

// A file that was just made has nothing of one that had its number before, be it shown as a
// store or as it is: not the node, and not the failure of a sync.
func TestNewFileIsAnother(t *testing.T) {
	m, _ := unmounted(t)
	store := m.lookUp(t, 1, "a")
	dir, err := m.useFolder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.done()
	e := entry{backing: "a.lazy"}
	if err := m.statAt(dir, &e); err != nil {
		t.Fatal(err)
	}
	itself, err := m.nodes.bind(dir, &e)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{store, itself} {
		m.nodes.fail(n.shown(), unix.EIO)
	}
	m.nodes.anew(store.inode)
	for _, n := range []*node{store, itself} {
		if !m.nodes.isReplaced(n) || m.nodes.shownAs(n.shown()) != nil {
			t.Errorf("the new file has the node of the old one, shown as a store: %v", n.store)
		}
		if err := m.nodes.failure(n.shown()); err != nil {
			t.Errorf("the new file has the failure of the old one, shown as a store: %v", n.store)
		}
	}
}

// Who opens a file that has another size than the kernel knows has to look its name up again
// where somebody else has just replaced the node for that, and not where the file has lost its
// name.
func TestOtherSizeOfReplaced(t *testing.T) {
	m, _ := unmounted(t)
	replaced, removed := m.lookUp(t, 1, "a"), m.lookUp(t, 1, "b")
	if !m.nodes.replace(replaced, &m.files) {
		t.Fatal("a node that nobody uses is not replaced")
	}
	if code := m.Unlink(nil, &fuse.InHeader{NodeId: 1}, "b"); code != fuse.OK {
		t.Fatal(code)
	}
	if err := m.showSize(replaced, 5000, nil); err != unix.ESTALE {
		t.Errorf("replaced: %v, want %v", err, unix.ESTALE)
	}
	if err := m.showSize(removed, 5000, nil); err != nil {
		t.Errorf("removed: %v", err)
	}
}
