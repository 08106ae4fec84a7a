package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

var umountCommand = command{
	name:    "umount",
	args:    []string{"DIR"},
	min:     1,
	max:     1,
	summary: "Unmount a lazyfs mount and wait until its daemon has ended",
	about: `When it returns 0, everything written through the mount is durable. If the daemon
could not write everything, or had died before, umount says so and returns 3;
nothing is mounted then either. A mount in use stays mounted, and umount names
the processes that use it. The daemon lives as long as the mount is anywhere, such
as in another mount namespace: umount names these places, and waits.`,
	examples: []string{"lazyfs umount /mnt"},
	declare: func(*pflag.FlagSet) action {
		return umount
	},
}

func umount(ctx context.Context, args []string) error {
	dir, err := resolveMountDir(args[0])
	if err != nil {
		return err
	}
	m, err := findMount(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	r, err := openRecord(m)
	if err != nil {
		return fmt.Errorf("%s: %w", m.dir, err)
	}
	pidfd := -1
	if r != nil {
		defer r.file.Close()
		if pidfd, err = r.openDaemon(); err != nil {
			return fmt.Errorf("%s: %w", m.dir, err)
		}
	}
	if err := unmount(m.dir, r != nil && (pidfd < 0 || r.dying())); err != nil {
		return err
	}
	switch {
	case r == nil:
		return fmt.Errorf("%s: unmounted, but its daemon was not found: what it has not written yet may still follow", m.dir)
	case pidfd >= 0:
		defer unix.Close(pidfd)
		if err := r.awaitEnd(ctx, pidfd, m); err != nil {
			return err
		}
	}
	r.remove() // a daemon that was killed has not
	return r.outcome(m.dir)
}

// awaitEnd waits for the end of the daemon that served m, and says what it waits for
// when that takes long.
func (r *record) awaitEnd(ctx context.Context, pidfd int, m mountPoint) error {
	soon, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := waitReadable(soon, pidfd)
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	cause := " to write everything"
	if places := m.elsewhere(); len(places) > 0 {
		cause = ", since it is mounted elsewhere, too: " + strings.Join(places, ", ")
	}
	_ = printLine(os.Stderr, "lazyfs umount: %s: unmounted, waiting for its daemon (pid %d)%s", m.dir, r.PID, cause)
	return waitReadable(ctx, pidfd)
}

// outcome says whether the daemon, which is dead, made everything durable.
func (r *record) outcome(dir string) error {
	if err := r.read(); err != nil {
		return err
	}
	switch {
	case r.Error != "":
		return fmt.Errorf("%s: unmounted, but not everything was written: %s", dir, r.Error)
	case !r.Ended && r.Writable:
		return fmt.Errorf("%s: unmounted, but its daemon (pid %d) was killed: what was not synced before may be lost", dir, r.PID)
	}
	return nil
}

// passing is how long unmount tries again while a mount is busy: df(1), or somebody
// who reads links in /proc, uses it for a moment only.
const passing = 300 * time.Millisecond

// unmount removes the mount from dir. dead says that its daemon was killed.
func unmount(dir string, dead bool) error {
	err := tryUnmount(dir, dead)
	for begin := time.Now(); errors.Is(err, unix.EBUSY) && time.Since(begin) < passing; err = tryUnmount(dir, dead) {
		time.Sleep(2 * time.Millisecond)
	}
	if errors.Is(err, unix.EBUSY) {
		if users := mountUsers(dir); len(users) > 0 {
			return fmt.Errorf("%s: is busy: in use by %s", dir, strings.Join(users, ", "))
		}
		return fmt.Errorf("%s: is busy: files on it are open, or something is mounted below it", dir)
	}
	if err != nil {
		return fmt.Errorf("%s: unmount: %w", dir, err)
	}
	return nil
}

// tryUnmount removes the mount as root or with the help of fusermount3. dead says that its
// daemon was killed. The kernel is to give up all requests then: one that nobody will
// answer may keep a thread of the daemon alive, and that the mount.
func tryUnmount(dir string, dead bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if dead {
		flags |= unix.MNT_FORCE
	}
	err := unix.Unmount(dir, flags)
	if err == unix.EPERM {
		return fusermount(dir)
	}
	return err
}

// fusermount unmounts what an ordinary user has mounted.
func fusermount(dir string) error {
	out, err := exec.Command("fusermount3", "-u", "--", dir).CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(out))
	// It is written in C, whose messages begin with a capital.
	if strings.Contains(strings.ToLower(text), unix.EBUSY.Error()) {
		return unix.EBUSY
	}
	if text == "" {
		return err
	}
	return errors.New(text)
}
