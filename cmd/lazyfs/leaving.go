package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// leavingPatience bounds the wait for daemons that are going away. One whose mount
// was detached while files were open lives as long as those are.
const leavingPatience = 10 * time.Second

// awaitLeaving waits for the daemons of this user's earlier mounts of source. Other
// than lazyfs umount, umount(8) returns before they have written everything and
// given up the locks of their stores.
func awaitLeaving(ctx context.Context, source string) {
	ctx, cancel := context.WithTimeout(ctx, leavingPatience)
	defer cancel()
	for _, folder := range recordFolders(os.Getuid()) {
		records, _ := os.ReadDir(folder) // there is none before the first mount
		for _, r := range records {
			awaitDaemon(ctx, r.Name(), source)
		}
	}
}

// awaitDaemon waits until ctx is done for the end of the daemon with the record name,
// if it has served source and is not mounted any more.
func awaitDaemon(ctx context.Context, name, source string) {
	r, err := openRecord(mountPoint{device: name, uid: os.Getuid()})
	if err != nil || r == nil {
		return // It has ended, or what lies there is no record.
	}
	defer r.file.Close()
	if !r.Writable || !overlap(r.Source, source) {
		return
	}
	pidfd, err := r.openDaemon()
	if err != nil || pidfd < 0 {
		return
	}
	defer unix.Close(pidfd)
	if strings.HasSuffix(name, replaced) || !r.mounted(name) {
		_ = waitReadable(ctx, pidfd) // Who lives longer keeps what is locked.
	}
}

// mounted tells whether the mount of device is in sight of the record's daemon. A
// number that it has given up another mount may have got, of any source.
func (r *record) mounted(device string) bool {
	mounts, err := mountsOf(strconv.Itoa(r.PID))
	return err != nil || slices.ContainsFunc(mounts, func(m mountPoint) bool {
		return m.device == device && m.fsType == mountType && m.source == r.Source
	})
}

// overlap tells whether a and b are the same, or one lies in the other.
func overlap(a, b string) bool {
	a, b = realPath(a)+"/", realPath(b)+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// realPath is path without symbolic links, or path where that can't be found.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}
