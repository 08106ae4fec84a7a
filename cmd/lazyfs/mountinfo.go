package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mountType is the type of lazyfs's mounts in /proc/self/mountinfo.
const mountType = "fuse.lazyfs"

// A mountPoint is a mount as the kernel knows it.
type mountPoint struct {
	device string // major:minor, the identity of a mount while it lives
	dir    string
	fsType string
	uid    int // of the user who mounted it
}

// findMount finds the uppermost mount on the folder real, a path without
// symbolic links. It does not touch the mount, so it works when the mount's
// daemon is dead, and in the daemon itself.
func findMount(real string) (mountPoint, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return mountPoint{}, err
	}
	defer f.Close()
	found, err := parseMounts(f, real)
	switch {
	case err != nil:
		return mountPoint{}, fmt.Errorf("read /proc/self/mountinfo: %w", err)
	case found.dir == "":
		return mountPoint{}, errors.New("nothing is mounted here")
	case found.fsType != mountType:
		return mountPoint{}, fmt.Errorf("is not a lazyfs mount but %s", found.fsType)
	}
	return found, nil
}

// resolveMountDir is dir as the kernel names it. The last element may be a dead
// mount, on which every system call fails.
func resolveMountDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}

// parseMounts finds the last line for dir, which is the uppermost mount, in the
// format of proc_pid_mountinfo(5).
func parseMounts(r io.Reader, dir string) (mountPoint, error) {
	var found mountPoint
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// 36 35 98:0 / /mnt rw,noatime shared:1 - ext3 /dev/root rw,errors=continue
		before, after, ok := strings.Cut(lines.Text(), " - ")
		mount, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 6 || len(super) < 1 || unescapeMount(mount[4]) != dir {
			continue
		}
		found = mountPoint{device: mount[2], dir: dir, fsType: super[0]}
		for option := range strings.SplitSeq(super[len(super)-1], ",") {
			if uid, ok := strings.CutPrefix(option, "user_id="); ok {
				found.uid, _ = strconv.Atoi(uid) // the kernel writes a number
			}
		}
	}
	return found, lines.Err()
}

// unescapeMount undoes the kernel's octal escapes of space, tab, newline and
// backslash.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
