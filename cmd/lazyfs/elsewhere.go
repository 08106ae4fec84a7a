package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// elsewhere names the places where what was mounted as m is mounted still, in this
// mount namespace and in those of other processes, as far as this one may see them.
func (m mountPoint) elsewhere() []string {
	var places []string
	seen := make(map[string]bool) // mount namespaces
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range append([]string{"/proc/self"}, processes...) {
		namespace, err := os.Readlink(p + "/ns/mnt")
		if err != nil || seen[namespace] {
			continue
		}
		mounts, err := mountsOf(filepath.Base(p))
		if err != nil {
			continue
		}
		seen[namespace] = true
		where := ""
		if p != "/proc/self" {
			name, _ := os.ReadFile(p + "/comm")
			where = fmt.Sprintf(" in the mount namespace of %s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(p))
		}
		for _, other := range mounts {
			// The device number may be that of a newer mount.
			if other.device == m.device && other.fsType == m.fsType && other.source == m.source {
				places = append(places, other.dir+where)
			}
		}
	}
	return places
}
