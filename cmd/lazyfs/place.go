package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountPlace is dir without symbolic links. It refuses a dead mount, and a place where
// source is mounted already: a second mount of it would only hide the first.
func mountPlace(source, dir string) (string, error) {
	dead := fmt.Errorf("%s: is a mount whose daemon is dead: unmount it first", dir)
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, unix.ENOTCONN) {
		return "", dead
	}
	if err != nil {
		return "", err
	}
	m, err := findMount(real)
	if err != nil {
		return real, nil // What is mounted there is not of lazyfs.
	}
	r, err := openRecord(m)
	if err != nil || r == nil {
		return real, nil // It is another user's.
	}
	defer r.file.Close()
	pidfd, err := r.openDaemon()
	switch {
	case err != nil:
		return "", err
	case pidfd < 0:
		return "", dead
	}
	unix.Close(pidfd)
	if realPath(r.Source) == realPath(source) {
		return "", fmt.Errorf("%s: %s is mounted there already", dir, source)
	}
	return real, nil
}
