package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// status is the answer to the kernel for err.
func status(err error) fuse.Status {
	var errno unix.Errno
	switch {
	case err == nil:
		return fuse.OK
	case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrNotStore), errors.Is(err, store.ErrVersion):
		return fuse.EIO
	case errors.Is(err, store.ErrLocked):
		return fuse.EBUSY
	case errors.Is(err, store.ErrTooLarge):
		return fuse.Status(unix.EFBIG)
	case errors.Is(err, store.ErrReadOnly):
		return fuse.EROFS
	case errors.As(err, &errno):
		return fuse.Status(errno)
	}
	return fuse.EIO
}

// isNoSpace tells whether err says that the disk, or the user's share of it, is full.
func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// logged remembers what was logged, so that a program that reads a damaged range
// again and again does not fill the log.
type logged struct {
	mu   sync.Mutex
	seen map[string]bool
}

// loggedMax bounds what is remembered; past it everything may be logged again.
const loggedMax = 4096

// logOnce logs a line unless it was logged before.
func (m *mount) logOnce(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	m.logged.mu.Lock()
	defer m.logged.mu.Unlock()
	if m.logged.seen[line] {
		return
	}
	if m.logged.seen == nil || len(m.logged.seen) >= loggedMax {
		m.logged.seen = make(map[string]bool)
	}
	m.logged.seen[line] = true
	m.log.Print(line)
}

// logStore logs an error of f's store that its caller sees as a mere errno, unless
// the caller has asked for what no store can be.
func (m *mount) logStore(f *file, err error) {
	if errors.Is(err, store.ErrTooLarge) {
		return
	}
	path := f.backingPath()
	var d *store.DamageError
	if errors.As(err, &d) && d.Plain.Len > 0 {
		m.logOnce("%s: bytes %#x to %#x can't be read: %v", path, d.Plain.Off, d.Plain.Off+d.Plain.Len, err)
		return
	}
	m.logOnce("%s: %v", path, err)
}

// backingPath is where f lies, for messages.
func (f *file) backingPath() string {
	path, err := os.Readlink(procPath(f.path))
	if err != nil {
		return f.name
	}
	f.times.Lock()
	defer f.times.Unlock()
	if strings.HasSuffix(path, " (deleted)") && !f.gone {
		// It was made without a name (O_TMPFILE), which is all the kernel tells.
		return filepath.Join(filepath.Dir(path), f.name)
	}
	return path
}
