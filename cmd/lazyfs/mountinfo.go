package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountType is the type of lazyfs's mounts in /proc/self/mountinfo.
const mountType = "fuse.lazyfs"

// A mountPoint is a mount as the kernel knows it.
type mountPoint struct {
	device string // major:minor, the identity of a mount while it lives
	dir    string
	fsType string
	source string
	uid    int // of the user who mounted it
}

// findMount finds the uppermost mount on the folder real, a path without
// symbolic links. It does not touch the mount, so it works when the mount's
// daemon is dead, and in the daemon itself.
func findMount(real string) (mountPoint, error) {
	mounts, err := mountsOf("self")
	if err != nil {
		return mountPoint{}, err
	}
	found, ok := uppermost(mounts, real)
	switch {
	case !ok:
		return mountPoint{}, errors.New("nothing is mounted here")
	case found.fsType != mountType:
		return mountPoint{}, fmt.Errorf("is not a lazyfs mount but %s", found.fsType)
	}
	return found, nil
}

// mountsOf are the mounts in sight of a process, by its number or "self".
func mountsOf(pid string) ([]mountPoint, error) {
	f, err := os.Open("/proc/" + pid + "/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mounts, err := parseMounts(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return mounts, nil
}

// uppermost is the last of the mounts on dir.
func uppermost(mounts []mountPoint, dir string) (m mountPoint, ok bool) {
	for _, m := range slices.Backward(mounts) {
		if m.dir == dir {
			return m, true
		}
	}
	return mountPoint{}, false
}

// resolveMountDir is dir as the kernel names it. It may be a dead mount, on which every
// system call fails, or a link to one.
func resolveMountDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	real, dead := filepath.EvalSymlinks(dir)
	if dead == nil {
		return real, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	dir = filepath.Join(parent, filepath.Base(dir))
	to, err := os.Readlink(dir)
	if err != nil || !errors.Is(dead, unix.ENOTCONN) {
		return dir, nil
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(parent, to)
	}
	return resolveMountDir(to)
}

// parseMounts reads mounts in the format of proc_pid_mountinfo(5), in their order.
func parseMounts(r io.Reader) ([]mountPoint, error) {
	var mounts []mountPoint
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// 36 35 98:0 / /mnt rw,noatime shared:1 - ext3 /dev/root rw,errors=continue
		before, after, ok := strings.Cut(lines.Text(), " - ")
		mount, super := strings.Split(before, " "), strings.Split(after, " ")
		if !ok || len(mount) < 6 || len(super) < 3 {
			continue
		}
		m := mountPoint{device: mount[2], dir: unescapeMount(mount[4]), fsType: super[0], source: unescapeMount(super[1])}
		for option := range strings.SplitSeq(super[2], ",") {
			if uid, ok := strings.CutPrefix(option, "user_id="); ok {
				m.uid, _ = strconv.Atoi(uid) // the kernel writes a number
			}
		}
		mounts = append(mounts, m)
	}
	return mounts, lines.Err()
}

// unescapeMount undoes the kernel's octal escapes of space, tab, newline, backslash,
// and in sources the number sign.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#").Replace
