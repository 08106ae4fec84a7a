package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A record is a small file by which umount finds the daemon of a mount. Its
// name is the mount's device number. The daemon holds a lock on it as long as
// it lives, and writes into it how it ended: the last of its lines counts.
type record struct {
	file *os.File
	recordData
}

type recordData struct {
	PID       int    `json:"pid"`
	Namespace string `json:"pid_namespace"` // in which the daemon has this number
	Source    string `json:"source"`
	Writable  bool   `json:"writable"`
	Ended     bool   `json:"ended"`           // the daemon made everything durable, or could not:
	Error     string `json:"error,omitempty"` // the reason
}

// recordFolders are the places of the records of a user's mounts: the first
// that can be made is used.
func recordFolders(uid int) []string {
	folders := []string{
		fmt.Sprintf("/run/user/%d/lazyfs", uid),
		fmt.Sprintf("/tmp/lazyfs-%d", uid),
	}
	if uid == 0 {
		folders[0] = "/run/lazyfs"
		return folders
	}
	// Relative it would be another folder for each program (XDG Base Directory Specification).
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) && uid == os.Getuid() {
		folders = append([]string{filepath.Join(dir, "lazyfs")}, folders...)
	}
	return folders
}

// newRecord makes the record of a mount that this process serves.
func newRecord(m mountPoint, source string, writable bool) (*record, error) {
	var first error
	for _, folder := range recordFolders(os.Getuid()) {
		f, err := createRecord(folder, m.device)
		if err == nil {
			r := &record{f, recordData{PID: os.Getpid(), Namespace: pidNamespace(), Source: source, Writable: writable}}
			return r, r.write()
		}
		first = cmp.Or(first, err)
	}
	return nil, fmt.Errorf("make the mount's record: %w", first)
}

// pidNamespace names the namespace of this process's number (pid_namespaces(7)).
func pidNamespace() string {
	name, _ := os.Readlink("/proc/self/ns/pid") // Where there is no /proc nothing is mounted.
	return name
}

// replaced ends the name of a record whose device number a newer mount has got.
const replaced = ".replaced"

// createRecord makes and locks the file of a record. One that exists already is of
// a mount that had the same device number, and whose daemon may live yet.
func createRecord(folder, device string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	// In a folder that all may write to, somebody else may have made ours.
	info, err := os.Lstat(folder)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() || int(info.Sys().(*syscall.Stat_t).Uid) != os.Getuid() {
		return nil, fmt.Errorf("%s: is not a folder of this user", folder)
	}
	path := filepath.Join(folder, device)
	if err := os.Rename(path, path+replaced); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, os.NewSyscallError("flock", err)
	}
	return f, nil
}

// write adds a line to the record, which always has a whole one for who reads it.
func (r *record) write() error {
	return json.NewEncoder(r.file).Encode(r.recordData)
}

// end writes how the daemon ended and removes the record's name. Who has the
// record open can still read it. The lock stays until the process is gone.
func (r *record) end(result error) {
	r.Ended = true
	if result != nil {
		r.Error = result.Error()
	}
	_ = r.write() // without it umount reports that the daemon did not finish
	r.remove()
}

// remove removes the record's name, which is another one when a newer mount has
// got the device number.
func (r *record) remove() {
	mine, err := r.file.Stat()
	if err != nil {
		return
	}
	for _, path := range []string{r.file.Name(), r.file.Name() + replaced} {
		if now, err := os.Lstat(path); err == nil && os.SameFile(mine, now) {
			_ = os.Remove(path) // what remains is replaced by the next mount
		}
	}
}

// openRecord opens the record of a mount, or returns nil when there is none, or nothing
// in it yet. In /tmp somebody else may have made what has its name.
func openRecord(m mountPoint) (*record, error) {
	var first error
	for _, folder := range recordFolders(m.uid) {
		// Nothing but a regular file is waited for.
		f, err := os.OpenFile(filepath.Join(folder, m.device), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			first = cmp.Or(first, err) // The daemon may have been refused, too, and went on.
			continue
		}
		info, err := f.Stat()
		if err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != m.uid {
			f.Close()
			continue
		}
		r := &record{file: f}
		if err = r.read(); err == nil {
			return r, nil
		}
		f.Close()
		if !errors.Is(err, io.EOF) { // There is something in it.
			return nil, err
		}
	}
	return nil, first
}

func (r *record) read() error {
	lines := json.NewDecoder(io.NewSectionReader(r.file, 0, 1<<20))
	for n := 0; ; n++ {
		var line recordData
		switch err := lines.Decode(&line); {
		case err == nil:
			r.recordData = line
		case n > 0:
			return nil
		default:
			return fmt.Errorf("%s: %w", r.file.Name(), err)
		}
	}
}

// alive says whether the daemon still lives, that is, holds its lock.
func (r *record) alive() bool {
	err := unix.Flock(int(r.file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		_ = unix.Flock(int(r.file.Fd()), unix.LOCK_UN)
	}
	return err == unix.EWOULDBLOCK
}

// openDaemon returns a pidfd of the record's daemon, or -1 when it is dead.
func (r *record) openDaemon() (int, error) {
	// Elsewhere its number is that of another process, or of none.
	if here := pidNamespace(); here != r.Namespace && r.alive() {
		return -1, fmt.Errorf("daemon %d can't be waited for: it is in PID namespace %s, this process in %s", r.PID, r.Namespace, here)
	}
	fd, err := unix.PidfdOpen(r.PID, 0)
	if err == unix.ESRCH {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("pidfd_open of daemon %d: %w", r.PID, err)
	}
	// As long as the lock is held the number can't have gone to another process.
	if !r.alive() {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// dying says whether the daemon was killed and yet has threads left, which wait for
// something that does not let itself be interrupted.
func (r *record) dying() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.PID))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ") // behind the name (proc_pid_stat(5))
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}
