package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// readAhead is how far the kernel reads ahead of a sequential reader, in bytes: four
// requests, so that frames are decompressed on all cores while the reader copies.
const readAhead = 4 * maxRequest

// dirtyShare is how much of all pages that may be dirty a mount may have, in percent.
// With the kernel's default for FUSE, 1, a machine of a gigabyte keeps a writer waiting
// for a third of the time.
const dirtyShare = 5

// deviceAt returns the device number, "0:41" say, of what is mounted at dir.
func deviceAt(dir string) (string, error) {
	var st unix.Statx_t
	// The kernel answers this by itself, without asking the mount.
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	if err != nil {
		return "", &os.PathError{Op: "statx", Path: dir, Err: err}
	}
	return fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor), nil
}

// widenPages lets the kernel read further ahead on the mount with that device number, and
// keep more dirty pages. It takes no more than its defaults from a file system
// (process_init_reply and fuse_bdi_init in fs/fuse/inode.c, Linux 6.18); what is more can
// be set afterwards, and by root alone (Documentation/ABI/testing/sysfs-class-bdi).
func widenPages(device string) error {
	set := func(name string, value int) error {
		return os.WriteFile(filepath.Join("/sys/class/bdi", device, name), []byte(strconv.Itoa(value)), 0)
	}
	if err := set("read_ahead_kb", readAhead>>10); err != nil {
		return err
	}
	return set("max_ratio", dirtyShare)
}
