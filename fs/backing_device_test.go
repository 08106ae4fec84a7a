package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Of a mount made by root the kernel reads further ahead than by default, and keeps more
// dirty pages, where it lets itself be told, also where a symbolic link leads to it.
func TestWiderPages(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may tell the kernel")
	}
	place := filepath.Join(t.TempDir(), "place")
	if err := os.Symlink(t.TempDir(), place); err != nil {
		t.Fatal(err)
	}
	d := start(t, mountSpec{Source: t.TempDir(), Dir: place})
	var st unix.Stat_t
	if err := unix.Stat(d.dir, &st); err != nil {
		t.Fatal(err)
	}
	told := !strings.Contains(d.log.String(), "as little as by default")
	for name, want := range map[string]string{"read_ahead_kb": "1024", "max_ratio": "5"} {
		got, err := os.ReadFile(fmt.Sprintf("/sys/class/bdi/%d:%d/%s", unix.Major(st.Dev), unix.Minor(st.Dev), name))
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.TrimSpace(string(got)); told && text != want {
			t.Errorf("%s is %s, want %s", name, text, want)
		}
	}
	d.umount()
}
