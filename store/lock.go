package store

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errNoLocks says that the file system of a store has no locks. Nobody can then
// see who reads it, so that no space that a commit frees may be used again.
var errNoLocks = errors.New("file system has no locks")

// pinBase is the byte that stands for generation 0. It lies above any byte of a
// store, so that these locks meet no others.
const pinBase = 1 << 62

// lockWriter takes the writer's lock of the store in f: flock, which belongs to
// the open file description, so that a process that is handed a copy of the
// descriptor holds it, too. When another one has it that is ErrLocked, and the
// text names the process.
func lockWriter(f *os.File) error {
	err := retryEINTR(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s is in use by %s", ErrLocked, f.Name(), lockHolder(f))
	}
	return lockError("flock", err)
}

// unlockWriter gives the writer's lock of f up, whoever has a copy of the descriptor.
// Closing f leaves it to a child that this process has just made: until that begins its
// program it has copies of all descriptors.
func unlockWriter(f *os.File) error {
	return os.NewSyscallError("flock", unix.Flock(int(f.Fd()), unix.LOCK_UN))
}

// lockError makes the kernel's ways to say that there are no locks one.
func lockError(call string, err error) error {
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOLCK), errors.Is(err, unix.ENOSYS),
		errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: %w", errNoLocks, os.NewSyscallError(call, err))
	}
	return os.NewSyscallError(call, err)
}

// lockHolder describes the process that took the flock of f.
func lockHolder(f *os.File) string {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "another process"
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return "another process"
	}
	defer locks.Close()
	want := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	lines := bufio.NewScanner(locks)
	for lines.Scan() {
		// "12: FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF"; waiters have "->"
		// behind the number (Linux, Documentation/filesystems/locks and proc).
		w := strings.Fields(lines.Text())
		if len(w) < 6 || w[1] != "FLOCK" || w[5] != want {
			continue
		}
		if pid, err := strconv.Atoi(w[4]); err == nil && pid > 0 {
			return describeProcess(pid)
		}
	}
	return "another process"
}

func describeProcess(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("a process that got it from process %d, which has ended", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(comm)))
}

// pin shows all processes that f reads generation gen, until unpin or until the
// last descriptor of f's open file description is closed, be it by SIGKILL. A child
// that was just made keeps it as it would keep the writer's lock.
// Pins of one description don't add up: it has its own for each Store. gen is
// at most maxGeneration.
func pin(f *os.File, gen uint64) error { return setPin(f, gen, unix.F_RDLCK) }

// unpin takes the pin of f on gen away.
func unpin(f *os.File, gen uint64) error { return setPin(f, gen, unix.F_UNLCK) }

func setPin(f *os.File, gen uint64, kind int16) error {
	lk := unix.Flock_t{Type: kind, Start: pinBase + int64(gen), Len: 1}
	err := retryEINTR(func() error { return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk) })
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		// Nobody locks these bytes for writing; NFS makes a flock of the whole
		// file a lock of all its bytes (flock(2)).
		return fmt.Errorf("%w: %s has a writer on a file system that keeps readers out meanwhile", ErrLocked, f.Name())
	case errors.Is(err, unix.ENOLCK):
		// Where a writer can look for pins it would not see this one: it is the kernel
		// that has no memory for a lock (fcntl(2)).
		if _, _, blind := oldestPin(f, gen+1); blind == nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	return lockError("fcntl", err)
}

// oldestPin finds the oldest generation below below that an open file
// description other than f's has pinned.
func oldestPin(f *os.File, below uint64) (gen uint64, ok bool, err error) {
	for below > 0 {
		// The kernel reports any one of the locks in the way, so look again
		// below each (fcntl(2), F_OFD_GETLK).
		lk := unix.Flock_t{Type: unix.F_WRLCK, Start: pinBase, Len: int64(below)}
		err := retryEINTR(func() error { return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk) })
		if err != nil {
			return 0, false, lockError("fcntl", err)
		}
		if lk.Type == unix.F_UNLCK {
			break
		}
		gen, ok = uint64(max(lk.Start, pinBase)-pinBase), true
		below = gen
	}
	return gen, ok, nil
}
