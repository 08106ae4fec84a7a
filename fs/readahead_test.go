package fs_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Of a mount made by root the kernel reads further ahead than by default, where it
// lets itself be told.
func TestReadAhead(t *testing.T) {
	d := mountRO(t, t.TempDir())
	var st unix.Stat_t
	if err := unix.Stat(d.dir, &st); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Contains(d.log.String(), "read-ahead stays small")
	if text := strings.TrimSpace(string(got)); os.Geteuid() == 0 && !told && text != "1024" {
		t.Errorf("the kernel reads %s KiB ahead, want 1024", text)
	}
	d.umount()
}
