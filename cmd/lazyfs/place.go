package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockPlace keeps other mounts from the folder dir until the file that it returns is
// closed, so that each finds what the one before it has mounted. There is none where dir
// can't be opened. Who holds the lock for long is not one of them.
func lockPlace(ctx context.Context, dir string) *os.File {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, placePatience)
	defer cancel()
	for unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK && ctx.Err() == nil {
		time.Sleep(2 * time.Millisecond)
	}
	return f
}

// placePatience bounds the wait for another mount at the same place.
const placePatience = 5 * time.Second

// mountPlace is dir without symbolic links. It refuses a dead mount, and a place where
// source is mounted already: a second mount of it would only hide the first.
func mountPlace(source, dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, unix.ENOTCONN) {
		return "", deadMount(dir)
	}
	if err != nil {
		return "", err
	}
	m, err := findMount(real)
	if err != nil {
		return real, nil // What is mounted there is not of lazyfs.
	}
	// Another user's record may not be read, and a daemon that begins has none yet.
	if r, err := openRecord(m); err == nil && r != nil {
		defer r.file.Close()
		pidfd, err := r.openDaemon()
		switch {
		case err != nil:
			return "", fmt.Errorf("%s: %w", dir, err)
		case pidfd < 0:
			return "", deadMount(dir)
		}
		unix.Close(pidfd)
	}
	if realPath(m.source) == realPath(source) {
		return "", fmt.Errorf("%s: %s is mounted there already", dir, source)
	}
	return real, nil
}

func deadMount(dir string) error {
	return fmt.Errorf("%s: is a mount whose daemon is dead: unmount it first", dir)
}
