package fs_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazyfs/store"
)

// BenchmarkTree walks a tree of small files, the folder that LAZYFS_CORPUS names or
// the sources of Go: its names, what ls -l says of each, and all bytes.
func BenchmarkTree(b *testing.B) {
	mounts := treeMounts(b)
	for _, argv := range [][]string{{"find", "-name", "unlikely to be found"}, {"ls", "-lR"}, {"grep", "-r", "[u]nlikely to be found"}} {
		b.Run(strings.Join(argv[:2], ""), func(b *testing.B) {
			turns(b, mounts, func(d *daemon) map[string]float64 {
				busy := busySeconds(b)
				start := time.Now()
				cmd := exec.Command(argv[0], argv[1:]...)
				cmd.Dir = d.dir
				if out, err := cmd.CombinedOutput(); err != nil && argv[0] != "grep" { // Nothing found is an error of grep's.
					b.Fatalf("%v: %v: %.300s", cmd, err, out)
				}
				return map[string]float64{"ms": 1e3 * time.Since(start).Seconds(), "busy-ms": 1e3 * (busySeconds(b) - busy)}
			})
		})
	}
}

// treeMounts copies the tree to a folder in memory, packs it to another, and returns
// what is to be compared, the ceiling first.
func treeMounts(b *testing.B) []benchMount {
	dir := memoryFolder(b)
	from := os.Getenv("LAZYFS_CORPUS")
	if fi, err := os.Stat(from); err != nil || !fi.IsDir() {
		root, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			b.Fatal(err)
		}
		from = filepath.Join(strings.TrimSpace(string(root)), "src")
	}
	raw, packed := filepath.Join(dir, "raw"), filepath.Join(dir, "packed")
	if err := os.CopyFS(raw, os.DirFS(from)); err != nil {
		b.Fatal(err)
	}
	err := filepath.WalkDir(raw, func(path string, e fs.DirEntry, err error) error {
		to := packed + strings.TrimPrefix(path, raw)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		plain, err := os.Open(path)
		if err != nil {
			return err
		}
		defer plain.Close()
		f, err := os.Create(to + ".lazy")
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = store.Pack(b.Context(), f, plain, store.PackOptions{})
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return []benchMount{
		{"ceiling", mountSpec{Source: raw, Ceiling: true}},
		{"lazyfs", mountSpec{Source: packed}},
	}
}
