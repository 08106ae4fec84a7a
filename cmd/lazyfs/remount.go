package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// remount changes the kernel's view of a mount that is there: whether it can be
// written to, and what is restricted. All else stays as its daemon was started.
func (m *mounter) remount(dir string) error {
	dir, err := resolveMountDir(dir)
	if err != nil {
		return err
	}
	point, err := findMount(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if m.rw {
		r, err := openRecord(point)
		if err != nil {
			return err
		}
		if r != nil {
			defer r.file.Close()
			if !r.Writable {
				return fmt.Errorf("%s: its daemon serves it read-only: unmount it first", dir)
			}
		}
	}
	flags := uintptr(unix.MS_REMOUNT)
	if !m.rw {
		flags |= unix.MS_RDONLY
	}
	for _, r := range m.options.restrict {
		flags |= map[string]uintptr{"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC}[r]
	}
	if err := unix.Mount("", dir, "", flags, ""); err != nil {
		return fmt.Errorf("%s: remount: %w", dir, err)
	}
	return nil
}
