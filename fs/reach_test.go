package fs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What has the name and the number of a file that others have removed, and is of another type,
// is not that file. The kernel would take no attributes of it, and looks up the name instead.
func TestNumberOfAnotherType(t *testing.T) {
	m, back := unmounted(t)
	n := m.lookUp(t, 1, "a")
	path := filepath.Join(back, "a.lazy")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	n.inode = inodeOf(&st) // Not every file system uses a number again at once.
	if err := m.nodes.stat(n, &st); err != unix.ESTALE {
		t.Errorf("stat: %v, want %v", err, unix.ESTALE)
	}
	if named, err := m.nodes.atName(n, func(int, string) error { return nil }); named || err != nil {
		t.Errorf("it has a name: %v, %v", named, err)
	}
	if _, _, _, err := m.nodes.openPath(n, false); err != unix.ESTALE {
		t.Errorf("open: %v, want %v", err, unix.ESTALE)
	}
}

// A folder that was closed, and has no name by which to open it again, is not found.
func TestFolderWithoutName(t *testing.T) {
	m, back := unmounted(t)
	if err := os.Mkdir(filepath.Join(back, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	n := m.lookUp(t, 1, "d")
	for m.nodes.folders.giveUp() {
	}
	m.nodes.folders.move(n, nil, "")
	if _, err := m.useFolder(n.id); err != unix.ESTALE {
		t.Errorf("it is used with %v, want %v", err, unix.ESTALE)
	}
}

// A folder that was closed is not found by its name where others have put another one.
func TestFolderInPlaceOfAnother(t *testing.T) {
	m, back := unmounted(t)
	path := filepath.Join(back, "d")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	n := m.lookUp(t, 1, "d")
	for m.nodes.folders.giveUp() {
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	open := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := open()
	for range 10 {
		if _, err := m.useFolder(n.id); err != unix.ESTALE {
			t.Fatalf("it is used with %v, want %v", err, unix.ESTALE)
		}
	}
	if after := open(); after >= before+10 {
		t.Errorf("%d descriptors are open, were %d", after, before)
	}
}

// Who finds a file by a name of it does not keep the folder open.
func TestFoldersAreGivenBack(t *testing.T) {
	m, _ := unmounted(t)
	n := m.lookUp(t, 1, "a")
	users := m.root.dir.open.users.Load()
	var st unix.Stat_t
	if err := m.nodes.stat(n, &st); err != nil {
		t.Error(err)
	}
	if named, err := m.nodes.atName(n, func(int, string) error { return nil }); !named || err != nil {
		t.Errorf("it has a name: %v, %v", named, err)
	}
	for _, read := range []bool{false, true} {
		fd, _, _, err := m.nodes.openPath(n, read)
		if err != nil {
			t.Error(err)
		}
		unix.Close(fd)
	}
	if got := m.root.dir.open.users.Load(); got != users {
		t.Errorf("the folder has %d users, had %d", got, users)
	}
}
