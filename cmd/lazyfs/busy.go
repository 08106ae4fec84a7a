package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mountUsers names the processes that use files below dir, as far as this
// process may see them. It reads only links in /proc, which does not touch the
// mount.
func mountUsers(dir string) []string {
	var users []string
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if usesMount(p, dir) {
			name, err := os.ReadFile(p + "/comm")
			if err == nil {
				users = append(users, fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(p)))
			}
		}
	}
	return users
}

// usesMount says whether the process in the folder proc has a file below dir
// open, mapped, or as its working folder, root or program.
func usesMount(proc, dir string) bool {
	below := func(path string) bool {
		return path == dir || strings.HasPrefix(path, dir+"/")
	}
	links, _ := filepath.Glob(proc + "/fd/*")
	for _, link := range append(links, proc+"/cwd", proc+"/root", proc+"/exe") {
		if path, err := os.Readlink(link); err == nil && below(path) {
			return true
		}
	}
	maps, err := os.Open(proc + "/maps")
	if err != nil {
		return false
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		// 00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
		if _, path, ok := strings.Cut(lines.Text(), " /"); ok && below("/"+path) {
			return true
		}
	}
	return false
}
