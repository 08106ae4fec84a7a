package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// A folder that others put into one that lay in it is found there, also where so many
// folders are in use that both are closed meanwhile.
func TestFoldersTurnedRound(t *testing.T) {
	back := t.TempDir()
	const others = 50
	for i := range others {
		if err := os.MkdirAll(filepath.Join(back, "others", fmt.Sprint(i), "in"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(back, "out", "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	d := start(t, mountSpec{Source: back, Writable: true, Descriptors: 64})
	in, err := os.OpenFile(d.path("out", "in"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	fd := int(in.Fd())
	run(t, back, "sh", "-ec", "mv out/in in; mv out in/out")
	// The kernel refuses that: to its knowledge the one lies in the other.
	var st unix.Stat_t
	unix.Fstatat(fd, "out", &st, 0)
	for i := range others {
		names(t, d.path("others", fmt.Sprint(i), "in"))
	}
	if list, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		unix.ReadDirent(list, make([]byte, 4096)) // It may have to be looked up first.
		unix.Close(list)
	}
	until(t, "the folders are found where they are", func() bool {
		list, err := os.ReadDir(d.path("in", "out"))
		return err == nil && len(list) == 0
	})
	if got, want := names(t, d.path("in")), []string{"out"}; !slices.Equal(got, want) {
		t.Errorf("the folder shows %q, want %q", got, want)
	}
	in.Close()
	d.umount()
}
