package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// makeTree makes a folder with all that a tree can hold.
func makeTree(t *testing.T, root string) {
	t.Helper()
	write(t, root+"/empty", nil)
	write(t, root+"/small", text(1, 100))
	write(t, root+"/sub/big", noise(2, 9<<20))
	write(t, root+"/sub/deep/er/text", text(3, 300000))
	write(t, root+"/sub/name.lazy", []byte("not a store"))
	write(t, root+"/name with\nnewline and \xff", text(4, 5000))
	write(t, root+"/"+strings.Repeat("n", 250), text(5, 5000))
	write(t, root+"/"+strings.Repeat("n", 255), text(6, 5000))
	write(t, root+"/readonly/file", text(7, 5000))
	steps := []error{
		os.Mkdir(root+"/emptyfolder", 0o711),
		os.Link(root+"/small", root+"/sub/hardlink"),
		os.Link(root+"/small", root+"/another hardlink"),
		os.Symlink("../small", root+"/sub/symlink"),
		os.Symlink("/nowhere at all", root+"/dangling"),
		os.Symlink("sub", root+"/folderlink"),
		unix.Mkfifo(root+"/fifo", 0o620),
		os.Chmod(root+"/empty", 0o400),
		os.Chmod(root+"/sub/deep", 0o2750|os.ModeSetgid),
		os.Chown(root+"/sub/big", 1234, 5678),
		os.Chmod(root+"/sub/big", 0o711|os.ModeSetuid), // chown takes it away
		os.Lchown(root+"/dangling", 12, 34),
		os.Chmod(root+"/readonly", 0o555),
	}
	for _, err := range steps {
		if err != nil {
			t.Fatal(err)
		}
	}
	when := time.Date(2011, 1, 1, 0, 0, 0, 123456789, time.UTC)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		when = when.Add(time.Hour)
		ts := unix.NsecToTimespec(when.UnixNano())
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// describe lists a tree: one line for each file with all that must be kept.
// Hard links are described by the first name of the file.
func describe(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	first := make(map[uint64]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		content := ""
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			if content, err = os.Readlink(path); err != nil {
				return err
			}
		case 0:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = fmt.Sprintf("%d bytes %x", len(b), sum(b))
		}
		if _, known := first[stat.Ino]; !known {
			first[stat.Ino] = rel
		}
		lines = append(lines, fmt.Sprintf("%q = %q %v %d:%d %v %s", rel, first[stat.Ino], info.Mode(), stat.Uid, stat.Gid, info.ModTime().UTC(), content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func sameTree(t *testing.T, got, want string) {
	t.Helper()
	a, b := describe(t, got), describe(t, want)
	for _, line := range a {
		if !slices.Contains(b, line) {
			t.Errorf("unexpected in %s: %s", got, line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("missing in %s: %s", got, line)
		}
	}
}

// A folder that is packed and unpacked is identical: names, content, modes,
// owners, times, symbolic and hard links.
func TestPackUnpackFolder(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir+"/src")
	must(t, dir, "pack", "src", "stores")
	must(t, dir, "unpack", "stores", "back")
	sameTree(t, dir+"/back", dir+"/src")
	if got := list(t, dir); !slices.Equal(got, []string{"back", "src", "stores"}) {
		t.Errorf("folder holds %q", got)
	}
	for _, name := range []string{"/stores/sub/big.lazy", "/stores/sub/name.lazy.lazy", "/stores/" + strings.Repeat("n", 255)} {
		must(t, dir, "check", dir+name)
	}
	a, errA := os.Stat(dir + "/stores/small.lazy")
	b, errB := os.Stat(dir + "/stores/sub/hardlink.lazy")
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		t.Errorf("hard links are not kept in the folder of stores (%v, %v)", errA, errB)
	}
}

// The new folder may be named with slashes behind its name, as for mkdir(1).
func TestPackUnpackFolderSlash(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/src/x", text(1, 5000))
	must(t, dir, "pack", "src/", "stores/")
	must(t, dir, "unpack", "stores/", dir+"/back//")
	sameTree(t, dir+"/back", dir+"/src")
	if got := list(t, dir); !slices.Equal(got, []string{"back", "src", "stores"}) {
		t.Errorf("folder holds %q", got)
	}
	fails(t, dir, 3, "lazyfs pack: stores: exists: a folder is never replaced", "pack", "src", "stores/")
	fails(t, dir, 3, "lazyfs pack: src/sub: lies in the folder src itself", "pack", "src", "src/sub/")
	fails(t, dir, 3, "lazyfs pack: /: exists: a folder is never replaced", "pack", "src", "/")
}

// A symbolic link to a folder stands for that folder, with or without a slash behind it.
func TestPackUnpackLinkedFolder(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir+"/src")
	for link, to := range map[string]string{"srclink": "src", "storeslink": "stores"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	must(t, dir, "pack", "srclink", "stores")
	must(t, dir, "unpack", "storeslink", "back")
	sameTree(t, dir+"/back", dir+"/src")
	must(t, dir, "unpack", "storeslink/", "again")
	sameTree(t, dir+"/again", dir+"/src")
	fails(t, dir, 3, "lazyfs pack: srclink/sub/new: lies in the folder srclink itself", "pack", "srclink", "srclink/sub/new")
}

// Packing the folder again takes stores as the plain files they are; one round
// of unpacking gives them back.
func TestPackFolderOfStores(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/src/x", text(1, 50000))
	must(t, dir, "pack", "src/x", "src/x.lazy")
	must(t, dir, "pack", "src", "stores")
	must(t, dir, "unpack", "stores", "back")
	sameTree(t, dir+"/back", dir+"/src")
}

// Two files that would have one name in the new folder are named, and nothing is made.
func TestPackFolderOneName(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/src/sub/x", text(1, 5000))
	if err := os.Mkdir(dir+"/src/sub/x.lazy", 0o755); err != nil {
		t.Fatal(err)
	}
	fails(t, dir, 3, "lazyfs pack: sub/x.lazy: would be sub/x.lazy in the new folder, as would sub/x\n", "pack", "src", "stores")
	if got := list(t, dir); !slices.Equal(got, []string{"src"}) {
		t.Errorf("folder holds %q", got)
	}
}

// A folder of stores may hold other files. Those are copied, with their holes,
// as is a store whose plain name is taken.
func TestUnpackMixedFolder(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 50000)
	write(t, dir+"/plain", plain)
	write(t, dir+"/mixed/x", []byte("other"))
	write(t, dir+"/mixed/README", []byte("read me"))
	must(t, dir, "pack", "plain", "mixed/x.lazy")
	must(t, dir, "pack", "plain", "mixed/y.lazy")
	// y.lazy.lazy is shown as y.lazy, since y.lazy itself is shown as y.
	must(t, dir, "pack", "plain", "mixed/y.lazy.lazy")
	if err := os.Truncate(dir+"/mixed/README", 1<<40); err != nil {
		t.Fatal(err)
	}
	// Of two names of one store one is shown as it is, and one as what it holds.
	if err := os.Link(dir+"/mixed/x.lazy", dir+"/mixed/z.lazy"); err != nil {
		t.Fatal(err)
	}
	// Without any data it is an empty store, as a power cut leaves it.
	if err := errors.Join(os.WriteFile(dir+"/mixed/new.lazy", nil, 0o644), os.Truncate(dir+"/mixed/new.lazy", 8192)); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "unpack", "mixed", "out")
	if got, want := list(t, dir+"/out"), []string{"README", "new", "x", "x.lazy", "y", "y.lazy", "z"}; !slices.Equal(got, want) {
		t.Errorf("unpacked %q, want %q", got, want)
	}
	for name, want := range map[string][]byte{
		"new":    nil,
		"x":      []byte("other"),
		"x.lazy": read(t, dir+"/mixed/x.lazy"),
		"y":      plain,
		"y.lazy": plain,
		"z":      plain,
	} {
		if got := read(t, dir+"/out/"+name); string(got) != string(want) {
			t.Errorf("%s has other bytes", name)
		}
	}
	if info, err := os.Stat(dir + "/out/README"); err != nil || info.Size() != 1<<40 {
		t.Errorf("README: %v, %v", info, err)
	}
}

// A store whose name without the suffix would be that of a folder, or none, is unpacked
// as a mount shows it: as it is.
func TestUnpackFolderNames(t *testing.T) {
	dir := t.TempDir()
	names := []string{"...lazy", "..lazy", ".lazy"}
	write(t, dir+"/plain", []byte("text"))
	if err := os.Mkdir(dir+"/stores", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		must(t, dir, "pack", "plain", "stores/"+name)
	}
	must(t, dir, "unpack", "stores", "out")
	if got := list(t, dir+"/out"); !slices.Equal(got, names) {
		t.Errorf("unpacked %q, want %q", got, names)
	}
	for _, name := range names {
		if !bytes.Equal(read(t, dir+"/out/"+name), read(t, dir+"/stores/"+name)) {
			t.Errorf("%s has other bytes", name)
		}
	}
}

// One damaged store makes the unpacking of its folder fail, and nothing remains.
func TestUnpackDamagedFolder(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir+"/src")
	must(t, dir, "pack", "src", "stores")
	damageFrame(t, dir+"/stores/sub/big.lazy", 3)
	fails(t, dir, 3, "lazyfs unpack: damaged store: ", "unpack", "stores", "back")
	if got := list(t, dir); !slices.Equal(got, []string{"src", "stores"}) {
		t.Errorf("folder holds %q", got)
	}
}

// Two files on file systems of their own are no hard links, though they have one inode
// number.
func TestPackUnpackFileSystems(t *testing.T) {
	dir := t.TempDir()
	var inodes []uint64
	for _, name := range []string{"a", "b"} {
		at := dir + "/plain/" + name
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", at, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(at, unix.MNT_DETACH)
		write(t, at+"/x", []byte(name))
		var st unix.Stat_t
		if err := unix.Stat(at+"/x", &st); err != nil {
			t.Fatal(err)
		}
		inodes = append(inodes, st.Ino)
	}
	if inodes[0] != inodes[1] {
		t.Fatalf("the first files of two tmpfs have the numbers %d", inodes)
	}
	must(t, dir, "pack", "plain", "stores")
	must(t, dir, "unpack", "stores", "back")
	for _, name := range []string{"a", "b"} {
		if got := string(read(t, dir+"/back/"+name+"/x")); got != name {
			t.Errorf("file %s/x became %q", name, got)
		}
	}
}

// A folder of many files takes no more descriptors than one of a few.
func TestPackUnpackManyFiles(t *testing.T) {
	dir := t.TempDir()
	for i := range 500 {
		write(t, fmt.Sprintf("%s/plain/%d", dir, i), nil)
	}
	for _, args := range []string{"pack --jobs 2 plain stores", "unpack --jobs 2 stores back"} {
		c := exec.Command("sh", "-c", `ulimit -n 32; exec "$0" `+args, binary)
		c.Dir = dir
		if r := finish(t, c); r.code != 0 {
			t.Fatalf("lazyfs %s with 32 descriptors: exit code %d, %s", args, r.code, r.err)
		}
	}
	if n := len(list(t, dir+"/back")); n != 500 {
		t.Errorf("%d files came back, want 500", n)
	}
}

// A folder that is unpacked onto a mount is durable like any other, although the
// kernel does not tell the mount of syncfs(2).
func TestUnpackOntoMount(t *testing.T) {
	dir := t.TempDir()
	const files = 7
	for i := range files {
		write(t, fmt.Sprintf("%s/plain/sub%d/%d", dir, i%3, i), text(uint64(i), 30_000))
	}
	must(t, dir, "pack", "plain", "stores")
	write(t, dir+"/back/README", nil)
	mountStore(t, dir, "--rw", "back", "mnt")
	must(t, dir, "unpack", "stores", "mnt/tree")
	var counters []struct{ Syncs int }
	if err := json.Unmarshal([]byte(must(t, dir, "info", "--json", "--mount", "mnt")), &counters); err != nil {
		t.Fatal(err)
	}
	if len(counters) != 1 || counters[0].Syncs < files {
		t.Errorf("%+v: want a sync of each of %d files", counters, files)
	}
	if got := must(t, dir, "cat", "back/tree/sub0/3.lazy"); got != string(text(3, 30_000)) {
		t.Error("a file differs")
	}
	must(t, dir, "umount", "mnt")
}
