package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/test/disktest"
)

// names lists a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Name())
	}
	return all
}

// Stores appear by their plain names, all else as it is, and a store whose plain
// name is taken appears as it is under its full name.
func TestNamesShown(t *testing.T) {
	back := t.TempDir()
	at := func(name string) string { return filepath.Join(back, name) }
	pack(t, at("plain.lazy"), []byte("plain content"))
	pack(t, at("both.lazy"), []byte("store"))
	write(t, at("both"), []byte("file"))
	pack(t, at("twice.lazy.lazy"), []byte("twice"))
	write(t, at("no-store.lazy"), []byte("only called so"))
	write(t, at(".lazy"), nil)
	pack(t, at("..lazy"), []byte("dot"))
	pack(t, at("...lazy"), []byte("dots"))
	long := strings.Repeat("n", 252)
	pack(t, at(long), []byte("long"))
	if err := os.Mkdir(at("dir.lazy"), 0o755); err != nil {
		t.Fatal(err)
	}
	d := mountRO(t, back)
	want := []string{"...lazy", "..lazy", ".lazy", "both", "both.lazy", "dir.lazy", long, "no-store.lazy", "plain", "twice.lazy"}
	got := names(t, d.dir)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("folder shows %q, want %q", got, want)
	}
	for name, want := range map[string]string{
		"plain": "plain content", "both": "file", "twice.lazy": "twice", "no-store.lazy": "only called so", long: "long",
	} {
		same(t, d.path(name), []byte(want))
	}
	for _, name := range []string{"both.lazy", "..lazy"} {
		raw, err := os.ReadFile(at(name))
		if err != nil {
			t.Fatal(err)
		}
		same(t, d.path(name), raw)
	}
	for _, name := range []string{"plain.lazy", "twice", "twice.lazy.lazy", "no-store"} {
		if _, err := os.Lstat(d.path(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("stat %s: %v, want that it does not exist", name, err)
		}
	}
}

// A file created through the mount becomes a store, whatever its name, and is
// there under that name and with its content after remounting.
func TestNamesCreated(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	for _, n := range []int{1, 245, 250, 251, 255} {
		write(t, d.path(strings.Repeat("a", n)), text(uint64(n), 5000))
	}
	odd := []string{"x", "x.lazy", "x.lazy.lazy", ".lazy", "..lazy", "...lazy", "a b\n", strings.Repeat("b", 250) + ".lazy"}
	for i, name := range odd {
		write(t, d.path(name), text(uint64(i), 3000))
	}
	if err := os.WriteFile(d.path(strings.Repeat("c", 256)), nil, 0o644); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("name of 256 bytes: %v, want %v", err, syscall.ENAMETOOLONG)
	}
	check := func() {
		t.Helper()
		for _, n := range []int{1, 245, 250, 251, 255} {
			same(t, d.path(strings.Repeat("a", n)), text(uint64(n), 5000))
		}
		for i, name := range odd {
			same(t, d.path(name), text(uint64(i), 3000))
		}
		if got, want := len(names(t, d.dir)), 5+len(odd); got != want {
			t.Errorf("folder shows %d names, want %d: %q", got, want, names(t, d.dir))
		}
	}
	check()
	d.umount()
	d = mountRW(t, back)
	check()
	d.umount()
	if got := unpack(t, filepath.Join(back, "x.lazy")); string(got) != string(text(0, 3000)) {
		t.Error("x is not in the store x.lazy")
	}
	if got := unpack(t, filepath.Join(back, strings.Repeat("a", 255))); string(got) != string(text(255, 5000)) {
		t.Error("the name of 255 bytes is no store")
	}
}

// Where the backing name of a store is taken by something else, a plain file is
// made, and a rename to such a name leaves what is there alone.
func TestNamesTaken(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	if err := os.Mkdir(d.path("d.lazy"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, d.path("d"), []byte("plain file"))
	same(t, d.path("d"), []byte("plain file"))
	same(t, filepath.Join(back, "d"), []byte("plain file"))
	write(t, filepath.Join(back, "e.lazy"), []byte("foreign"))
	write(t, d.path("s"), []byte("store"))
	if err := os.Rename(d.path("s"), d.path("e")); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("rename: %v, want %v", err, syscall.EEXIST)
	}
	same(t, d.path("e.lazy"), []byte("foreign"))
	same(t, d.path("s"), []byte("store"))
	// What is no file keeps its name, which here is that of a store.
	for what, err := range map[string]error{
		"folder":       os.Mkdir(d.path("s.lazy"), 0o755),
		"link":         os.Symlink("s", d.path("s.lazy")),
		"special file": syscall.Mkfifo(d.path("s.lazy"), 0o644),
	} {
		if !errors.Is(err, syscall.EEXIST) {
			t.Errorf("make a %s s.lazy beside the store s: %v, want %v", what, err, syscall.EEXIST)
		}
	}
	write(t, d.path("s.lazy"), []byte("another store"))
	same(t, d.path("s.lazy"), []byte("another store"))
	same(t, d.path("s"), []byte("store"))
}

// Renames between stores, plain files and folders: over nothing, over each other,
// with RENAME_NOREPLACE and RENAME_EXCHANGE.
func TestRename(t *testing.T) {
	back := t.TempDir()
	write(t, filepath.Join(back, "plain"), []byte("plain"))
	write(t, filepath.Join(back, "plain2"), []byte("plain2"))
	d := mountRW(t, back)
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(d.path(from), d.path(to)); err != nil {
			t.Error(err)
		}
	}
	write(t, d.path("a"), []byte("a"))
	write(t, d.path("b"), []byte("b"))
	rename("a", "b") // store over store
	same(t, d.path("b"), []byte("a"))
	rename("b", "plain") // store over plain
	same(t, d.path("plain"), []byte("a"))
	write(t, d.path("c"), []byte("c"))
	rename("plain2", "c") // plain over store
	same(t, d.path("c"), []byte("plain2"))
	if got := names(t, d.dir); !slices.Equal(got, []string{"c", "plain"}) {
		t.Errorf("folder shows %q", got)
	}
	long := strings.Repeat("l", 255)
	rename("plain", long) // a suffix less
	same(t, d.path(long), []byte("a"))
	rename(long, "short") // and more
	same(t, d.path("short"), []byte("a"))
	write(t, d.path("other"), []byte("other"))
	if err := unix.Renameat2(unix.AT_FDCWD, d.path("short"), unix.AT_FDCWD, d.path("other"), unix.RENAME_NOREPLACE); err != unix.EEXIST {
		t.Errorf("RENAME_NOREPLACE: %v, want %v", err, unix.EEXIST)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, d.path("short"), unix.AT_FDCWD, d.path("other"), unix.RENAME_EXCHANGE); err != nil {
		t.Errorf("RENAME_EXCHANGE: %v", err)
	}
	same(t, d.path("short"), []byte("other"))
	same(t, d.path("other"), []byte("a"))
	if err := os.Mkdir(d.path("folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, d.path("folder", "in"), []byte("in"))
	for _, names := range [][2]string{{"short", "folder"}, {"folder", "short"}} {
		err := unix.Renameat2(unix.AT_FDCWD, d.path(names[0]), unix.AT_FDCWD, d.path(names[1]), unix.RENAME_EXCHANGE)
		if err != unix.EINVAL {
			t.Errorf("RENAME_EXCHANGE of %s and %s: %v, want %v", names[0], names[1], err, unix.EINVAL)
		}
		same(t, d.path("short"), []byte("other"))
		same(t, d.path("folder", "in"), []byte("in"))
	}
	if err := os.MkdirAll(d.path("x", "y"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, d.path("x", "y", "f"), []byte("f"))
	f, err := os.OpenFile(d.path("x", "y", "f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rename("x", "z")
	same(t, d.path("z", "y", "f"), []byte("f"))
	if _, err := f.WriteAt([]byte("g"), 0); err != nil {
		t.Error(err)
	}
	same(t, d.path("z", "y", "f"), []byte("g"))
}

// A rename that fails leaves both names as they were.
func TestRenameFails(t *testing.T) {
	back := t.TempDir()
	mounted := filepath.Join(back, "mounted")
	for _, name := range []string{"plain", "mounted"} {
		write(t, filepath.Join(back, name), []byte(name))
	}
	pack(t, filepath.Join(back, "store.lazy"), []byte("store"))
	if err := unix.Mount(mounted, mounted, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(mounted, unix.MNT_DETACH) })
	d := mountRW(t, back)
	for _, from := range []string{"store", "plain"} {
		if err := os.Rename(d.path(from), d.path("mounted")); !errors.Is(err, unix.EBUSY) {
			t.Errorf("rename of %s over something mounted: %v, want %v", from, err, unix.EBUSY)
		}
		same(t, d.path(from), []byte(from))
		same(t, d.path("mounted"), []byte("mounted"))
	}
	if got, want := names(t, back), []string{"mounted", "plain", "store.lazy"}; !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
}

// Stores are listed by their plain names also where the file system below does not tell
// with the names what is a file.
func TestNamesWithoutTypes(t *testing.T) {
	disk := disktest.NewWith(t, t.TempDir(), "^filetype", "")
	pack(t, filepath.Join(disk.Dir, "f.lazy"), []byte("content"))
	d := mountRO(t, disk.Dir)
	if got, want := names(t, d.dir), []string{"f", "lost+found"}; !slices.Equal(got, want) {
		t.Errorf("folder shows %q, want %q", got, want)
	}
}

// A store that can't be looked at, for want of descriptors say, is not said to be absent:
// who believes that writes a new one.
func TestNoDescriptorsIsNotAbsent(t *testing.T) {
	back := t.TempDir()
	const stores, descriptors = 60, 64
	for i := range stores {
		pack(t, filepath.Join(back, fmt.Sprintf("f%d.lazy", i)), text(1, 100))
	}
	d := start(t, mountSpec{Source: back, Writable: true, Descriptors: descriptors})
	refused := 0
	for i := range stores {
		f, err := os.Open(d.path(fmt.Sprint("f", i)))
		if err == nil {
			defer f.Close()
			continue
		}
		refused++
		if !errors.Is(err, unix.EMFILE) {
			t.Errorf("open: %v, want %v", err, unix.EMFILE)
		}
		if fi, err := os.Stat(d.path(fmt.Sprint("f", i))); err == nil && fi.Size() != 100 {
			t.Errorf("stat: %d bytes, want 100", fi.Size())
		} else if err != nil && !errors.Is(err, unix.EMFILE) {
			t.Errorf("stat: %v, want %v", err, unix.EMFILE)
		}
	}
	if refused == 0 {
		t.Errorf("%d stores are open with %d descriptors", stores, descriptors)
	}
}
