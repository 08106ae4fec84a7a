package fs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// unmounted is a writable mount of a folder with the stores a, b and c that no kernel knows.
func unmounted(t *testing.T) (m *mount, back string) {
	t.Helper()
	back = t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		s, err := store.Create(filepath.Join(back, name+suffix), store.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Writable: true}
	o.setDefaults()
	m, err := newMount(back, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.letGo)
	return m, back
}

// lookUp returns the node of name in folder id.
func (m *mount) lookUp(t *testing.T, id uint64, name string) *node {
	t.Helper()
	var out fuse.EntryOut
	if code := m.Lookup(nil, &fuse.InHeader{NodeId: id}, name, &out); code != fuse.OK || out.NodeId == 0 {
		t.Fatalf("lookup of %s: node %d, %v", name, out.NodeId, code)
	}
	return m.nodes.get(out.NodeId)
}

func (m *mount) rename(from string, toDir uint64, to string, flags uint32) unix.Errno {
	in := fuse.RenameIn{InHeader: fuse.InHeader{NodeId: 1}, Newdir: toDir, Flags: flags}
	return unix.Errno(m.Rename(nil, &in, from, to))
}

// The flags of a rename hold also where the kernel has not looked before it asks.
func TestRenameFlags(t *testing.T) {
	m, back := unmounted(t)
	for _, way := range []struct {
		to    string
		flags uint32
		want  unix.Errno
	}{
		{"b", unix.RENAME_NOREPLACE, unix.EEXIST},
		{"nothing", unix.RENAME_EXCHANGE, unix.ENOENT},
		{"nothing", unix.RENAME_WHITEOUT, unix.EINVAL},
	} {
		if err := m.rename("a", 1, way.to, way.flags); err != way.want {
			t.Errorf("rename to %s with flags %d: %v, want %v", way.to, way.flags, err, way.want)
		}
	}
	for _, name := range []string{"a", "b"} {
		if _, err := os.Stat(filepath.Join(back, name+suffix)); err != nil {
			t.Error(err)
		}
	}
}

// What the kernel knows is found at once after a rename, without another look: under its new
// name, or without one if another has taken that.
func TestRenameMovesNodes(t *testing.T) {
	m, _ := unmounted(t)
	a, b, c := m.lookUp(t, 1, "a"), m.lookUp(t, 1, "b"), m.lookUp(t, 1, "c")
	check := func(n *node, links uint64, names ...string) {
		t.Helper()
		var st unix.Stat_t
		if err := m.nodes.stat(n, &st); err != nil || uint64(st.Nlink) != links {
			t.Errorf("stat: %d links, %v; want %d", st.Nlink, err, links)
		}
		var got []string
		for _, l := range n.links {
			got = append(got, l.name)
		}
		if len(got) != len(names) || len(names) > 0 && got[0] != names[0]+suffix {
			t.Errorf("it has the names %q, want %q", got, names)
		}
	}
	if err := m.rename("a", 1, "b", unix.RENAME_EXCHANGE); err != 0 {
		t.Fatal(err)
	}
	check(a, 1, "b")
	check(b, 1, "a")
	f, err := m.pin(a)
	if err != nil {
		t.Fatal(err)
	}
	defer m.files.release(f)
	if err := m.rename("c", 1, "b", 0); err != 0 {
		t.Fatal(err)
	}
	check(c, 1, "b")
	check(a, 0)
	if !f.nameless() {
		t.Error("what has lost its name by a rename is taken for named")
	}
}

// What is opened after its last name was removed need not be durable.
func TestOpenedNameless(t *testing.T) {
	m, _ := unmounted(t)
	a := m.lookUp(t, 1, "a")
	if code := m.Unlink(nil, &fuse.InHeader{NodeId: 1}, "a"); code != fuse.OK {
		t.Fatal(code)
	}
	f, err := m.pin(a)
	if err != nil {
		t.Fatal(err)
	}
	defer m.files.release(f)
	if !f.nameless() {
		t.Error("it is taken for named")
	}
}

// After a rename that fails what was to be replaced is as it was, and durable when it is synced.
func TestRenameFailsKeepsNode(t *testing.T) {
	m, back := unmounted(t)
	other := filepath.Join(back, "other")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(back, "b.lazy"), filepath.Join(other, "b.lazy")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(other, other, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(other, unix.MNT_DETACH) })
	dir := m.lookUp(t, 1, "other")
	b := m.lookUp(t, dir.id, "b")
	if err := m.rename("a", dir.id, "b", 0); err != unix.EXDEV {
		t.Errorf("rename into another mount: %v, want %v", err, unix.EXDEV)
	}
	if b.nameless >= 0 {
		t.Error("what a rename has not replaced is taken for nameless")
	}
}
