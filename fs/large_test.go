package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A folder of very many files, of which one in a hundred is a store, shows each name
// once, also to who lists it while others are removed and made.
func TestLargeFolder(t *testing.T) {
	n := 5000
	if os.Getenv("LAZYFS_LONG") != "" {
		n = 100_000
	}
	back := t.TempDir()
	for i := range n {
		name := fmt.Sprintf("%07d", i)
		if i%100 == 0 {
			pack(t, filepath.Join(back, name+".lazy"), []byte(name))
		} else {
			write(t, filepath.Join(back, name), []byte(name))
		}
	}
	d := mountRW(t, back)
	folder, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	first, err := folder.Readdirnames(n / 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := n - 50; i < n; i++ {
		if err := os.Remove(d.path(fmt.Sprintf("%07d", i))); err != nil {
			t.Fatal(err)
		}
		write(t, d.path(fmt.Sprint("new", i)), nil)
	}
	rest, err := folder.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for _, name := range append(first, rest...) {
		seen[name]++
	}
	for i := range n - 50 {
		if name := fmt.Sprintf("%07d", i); seen[name] != 1 {
			t.Fatalf("%s is listed %d times", name, seen[name])
		}
	}
	if got := len(names(t, d.dir)); got != n {
		t.Errorf("%d names, want %d", got, n)
	}
	for i := 0; i < n-50; i += n / 100 {
		name := fmt.Sprintf("%07d", i)
		same(t, d.path(name), []byte(name))
	}
}

// Files are made, found, renamed and removed by paths as long as the kernel takes
// them, and in folders deeper than that by way of the folder they are in.
func TestLongPaths(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	part := strings.Repeat("d", 200)
	path := d.dir
	for len(path)+1+len(part) < unix.PathMax-1 {
		path += "/" + part
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// PATH_MAX counts the byte that ends a path.
	long := path + "/" + strings.Repeat("f", min(255, unix.PathMax-2-len(path)))
	write(t, long, text(1, 20_000))
	same(t, long, text(1, 20_000))
	if _, err := os.Stat(long + strings.Repeat("f", unix.PathMax-len(long))); err != unix.ENAMETOOLONG && !strings.Contains(fmt.Sprint(err), unix.ENAMETOOLONG.Error()) {
		t.Errorf("a path longer than PATH_MAX: %v, want %v", err, unix.ENAMETOOLONG)
	}
	run(t, path, "sh", "-ec", `
		name=$(printf 'n%.0s' $(seq 250))
		for i in 1 2 3 4 5; do mkdir $name; cd -P ./$name 2>/dev/null; done
		seq 10000 >deep; mv deep deeper; cp deeper $name; cmp deeper $name; rm deeper`)
	d.umount()
	d = start(t, mountSpec{Source: back, Dir: d.dir, Writable: true})
	same(t, long, text(1, 20_000))
	run(t, d.dir, "rm", "-r", part)
	if left := names(t, back); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}
