package test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/test/disktest"
)

// What a command has named is whole when the power goes as soon as it has ended.
func TestDoneIsDurable(t *testing.T) {
	disk := disktest.New(t)
	dir := disk.Dir
	plain, other := text(1, 300_000), text(2, 200_000)
	write(t, dir+"/plain", plain)
	write(t, dir+"/other", other)
	for _, name := range []string{"a", "sub/b"} {
		write(t, filepath.Join(dir, "tree", name), plain)
	}
	unix.Sync()
	for _, step := range []struct {
		args []string
		made []string // files
		hold []byte
	}{
		{[]string{"pack", "plain", "x.lazy"}, []string{"x.lazy"}, plain},
		{[]string{"pack", "tree", "stores"}, []string{"stores/a.lazy", "stores/sub/b.lazy"}, plain},
		{[]string{"unpack", "x.lazy", "back"}, []string{"back"}, plain},
		{[]string{"unpack", "stores", "backs"}, []string{"backs/a", "backs/sub/b"}, plain},
		{[]string{"copy", "x.lazy", "y.lazy"}, []string{"y.lazy"}, plain},
		{[]string{"check", "--quiet", "--repair", "x.lazy"}, []string{"x.repaired.lazy"}, plain},
		{[]string{"pack", "--force", "other", "x.lazy"}, []string{"x.lazy"}, other},
		{[]string{"unpack", "--force", "x.lazy", "back"}, []string{"back"}, other},
		{[]string{"copy", "--force", "x.lazy", "y.lazy"}, []string{"y.lazy"}, other},
	} {
		must(t, dir, step.args...)
		after := disk.Cut()
		for _, name := range step.made {
			got, err := os.ReadFile(filepath.Join(after, name))
			if err == nil && filepath.Ext(name) == ".lazy" {
				r := lazyfs(t, after, "cat", name)
				got = []byte(r.out)
			}
			if err != nil || !bytes.Equal(got, step.hold) {
				t.Errorf("after %q and a power cut %s has %d bytes, %v; want what was packed, %d bytes", step.args, name, len(got), err, len(step.hold))
			}
		}
	}
}
