package uffdmap

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// confine takes from this process, and from all that it starts, what a helper has
// no use for: it can gain no privileges, open, make or remove no file, reach no
// network and start nothing but its own program. What it has open it goes on
// using. With readFiles it may read all files.
//
// A program that is linked with shared libraries may also read what lies in
// their folders, since its standby is linked anew. A kernel without Landlock
// denies privileges only, which is no error.
func confine(readFiles bool) error {
	if err := landlocksys.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("confine: give up privileges: %w", err)
	}
	rules := []landlock.Rule{landlock.ROFiles("/proc/self/exe")}
	if readFiles {
		rules = append(rules, landlock.RODirs("/"))
	} else if folders := libraryFolders(); len(folders) > 0 {
		rules = append(rules, landlock.ROFiles(append(folders, "/etc/ld.so.cache")...).IgnoreIfMissing())
	}
	// In programs that use cgo this folder is read again when nothing else may be.
	// While it is open the kernel can't forget it, and take it for another then.
	if tasks, err := os.Open(fmt.Sprintf("/proc/%d/task", os.Getpid())); err == nil {
		defer tasks.Close()
	}
	// Later versions scope signals, which keeps the threads of one process from
	// each other in some kernels.
	if err := landlock.V5.BestEffort().Restrict(rules...); err != nil {
		return fmt.Errorf("confine: %w", err)
	}
	return nil
}

// libraryFolders are the folders of the shared libraries of this process.
func libraryFolders() []string {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer f.Close()
	var folders []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// Address, permissions, offset, device, inode, path.
		before, path, named := strings.Cut(lines.Text(), "/")
		path = "/" + path
		if !named || !strings.Contains(before, "x") || path == exe {
			continue
		}
		if dir := filepath.Dir(path); !slices.Contains(folders, dir) {
			folders = append(folders, dir)
		}
	}
	return folders
}
