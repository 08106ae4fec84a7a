package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A machine runs commands and undoes what was done to it.
type machine struct {
	ctx    context.Context
	lazyfs string // path of the program
	folder string // where everything lies; removed in the end
	undo   []func() error
}

func newMachine(ctx context.Context, lazyfs string) (*machine, error) {
	folder, err := os.MkdirTemp(os.Getenv("TMPDIR"), "lazyfs-bench-")
	if err != nil {
		return nil, err
	}
	m := &machine{ctx: ctx, lazyfs: lazyfs, folder: folder}
	m.undo = append(m.undo, func() error { return os.RemoveAll(folder) })
	return m, nil
}

// cleanUp undoes everything, the last first. What is still mounted is not removed.
func (m *machine) cleanUp() error {
	var errs []error
	for _, undo := range slices.Backward(m.undo) {
		if err := undo(); err != nil {
			return errors.Join(append(errs, fmt.Errorf("clean up %s: %w", m.folder, err))...)
		}
	}
	return nil
}

func (m *machine) path(parts ...string) string {
	return filepath.Join(append([]string{m.folder}, parts...)...)
}

// run runs a command until it has ended, and returns its standard output. An
// interruption ends it.
func (m *machine) run(name string, args ...string) (string, error) {
	return m.runWith(nil, name, args...)
}

func (m *machine) runWith(env []string, name string, args ...string) (string, error) {
	c := exec.CommandContext(m.ctx, name, args...)
	c.Env = append(append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin"), env...)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLine(errs.String()+"\n"+string(out)))
	}
	return string(out), nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// dropCaches empties the kernel's caches of files, which must be on the disk.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// unmount unmounts dir if something is mounted there.
func unmount(dir string) error {
	err := unix.Unmount(dir, 0)
	if err == unix.EINVAL || err == unix.ENOENT { // nothing is mounted
		return nil
	}
	return err
}
