package fs

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// readAhead is how far the kernel reads ahead of a sequential reader, in bytes: four
// requests, so that frames are decompressed on all cores while the reader copies.
const readAhead = 4 * maxRequest

// widenReadAhead sets the read-ahead of the mount at dir. The kernel takes no more
// than its default from a file system (process_init_reply in fs/fuse/inode.c, Linux
// 6.18); what is more can be set afterwards, and by root alone.
func widenReadAhead(dir string) error {
	var st unix.Statx_t
	// The kernel answers this by itself, without asking the mount.
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	if err != nil {
		return &os.PathError{Op: "statx", Path: dir, Err: err}
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", st.Dev_major, st.Dev_minor)
	return os.WriteFile(name, []byte(strconv.Itoa(readAhead>>10)), 0)
}
