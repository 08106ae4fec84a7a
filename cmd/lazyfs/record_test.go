package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func newTestRecord(t *testing.T, device string) *record {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "lazyfs")
	f, err := createRecord(folder, device)
	if err != nil {
		t.Fatal(err)
	}
	r := &record{f, recordData{PID: os.Getpid(), Namespace: pidNamespace(), Writable: true}}
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return r
}

func reopen(t *testing.T, r *record) *record {
	t.Helper()
	f, err := os.Open(r.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	other := &record{file: f}
	if err := other.read(); err != nil {
		t.Fatal(err)
	}
	return other
}

// A daemon is found while it holds its lock. When it does not, its number
// belongs to somebody else by now, whom nobody must wait for.
func TestRecordOfDeadDaemon(t *testing.T) {
	r := newTestRecord(t, "0:1")
	other := reopen(t, r)
	fd, err := other.openDaemon()
	if fd < 0 || err != nil {
		t.Errorf("living daemon: pidfd %d, %v", fd, err)
	}
	unix.Close(fd)
	r.file.Close() // gives the lock back, as the end of the process does
	if fd, err := other.openDaemon(); fd >= 0 || err != nil {
		t.Errorf("dead daemon whose number is taken: pidfd %d, %v, want -1", fd, err)
	}
}

// A daemon that was killed is dying until nothing is left of it.
func TestRecordDying(t *testing.T) {
	c := exec.Command("true")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, c.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	r := &record{recordData: recordData{PID: c.Process.Pid}}
	if !r.dying() {
		t.Error("a process that has ended and is waited for is not dying")
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if r.dying() {
		t.Error("a process that is no more is dying")
	}
	r.PID = os.Getpid()
	if r.dying() {
		t.Error("a process that lives is dying")
	}
}

// How the daemon ended is read even when the record has lost its name, and
// what it could not write is an error.
func TestRecordEnd(t *testing.T) {
	r := newTestRecord(t, "0:1")
	other := reopen(t, r)
	r.end(errors.New("disk is full"))
	if err := other.outcome("/mnt"); err == nil || err.Error() != "/mnt: unmounted, but not everything was written: disk is full" {
		t.Errorf("outcome is %v", err)
	}
	if _, err := os.Lstat(r.file.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after its end the record is there still (%v)", err)
	}
}

// Who reads a record while its daemon ends finds how it was or how it is.
func TestRecordReadWhileItEnds(t *testing.T) {
	r := newTestRecord(t, "0:1")
	other := reopen(t, r)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 300 {
			r.end(errors.New("disk is full"))
		}
	}()
	for range 300 {
		if err := other.read(); err != nil {
			t.Fatal(err)
		}
		if other.PID != r.PID || other.Ended != (other.Error == "disk is full") {
			t.Fatalf("record has %+v", other.recordData)
		}
	}
	<-ended
}

// userRecords makes the folder in /tmp for the records of a user who is nobody else.
func userRecords(t *testing.T) (folder string, uid int) {
	t.Helper()
	uid = 1<<30 + os.Getpid()
	folder = fmt.Sprintf("/tmp/lazyfs-%d", uid)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder, uid
}

// A record in which nothing is written yet is none: its mount is not ready.
func TestRecordEmpty(t *testing.T) {
	folder, uid := userRecords(t)
	f, err := createRecord(folder, "0:1")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Chown(uid, -1); err != nil {
		t.Fatal(err)
	}
	m := mountPoint{device: "0:1", uid: uid}
	if r, err := openRecord(m); r != nil || err != nil {
		t.Errorf("empty record: %v, %v, want none", r, err)
	}
	if _, err := f.WriteString(`{"pid":7}`); err != nil {
		t.Fatal(err)
	}
	r, err := openRecord(m)
	if err != nil || r == nil || r.PID != 7 {
		t.Fatalf("written record: %+v, %v", r, err)
	}
	r.file.Close()
}

// What somebody else has put in the place of a user's record is none, and nobody waits
// for it or for the process that it names.
func TestRecordOfOther(t *testing.T) {
	folder, uid := userRecords(t)
	path := folder + "/0:1"
	for what, make := range map[string]func() error{
		"a record":        func() error { return os.WriteFile(path, []byte(`{"pid":1}`), 0o600) },
		"a pipe":          func() error { return unix.Mkfifo(path, 0o600) },
		"a symbolic link": func() error { return os.Symlink("/etc/passwd", path) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if r, err := openRecord(mountPoint{device: "0:1", uid: uid}); r != nil {
			t.Errorf("%s of another user: %+v, %v, want none", what, r, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// A record whose device number a newer mount has taken keeps a name, and leaves that
// one's alone.
func TestRecordReplaced(t *testing.T) {
	r := newTestRecord(t, "0:1")
	f, err := createRecord(filepath.Dir(r.file.Name()), "0:1")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if older, err := os.Stat(f.Name() + replaced); err != nil {
		t.Error(err)
	} else if mine, err := r.file.Stat(); err != nil || !os.SameFile(older, mine) {
		t.Errorf("%s is another record (%v)", f.Name()+replaced, err)
	}
	r.end(nil)
	names, err := os.ReadDir(filepath.Dir(f.Name()))
	if err != nil || len(names) != 1 || names[0].Name() != "0:1" {
		t.Errorf("when the older daemon has ended there are %v, %v, want the newer record alone", names, err)
	}
}

// A folder for records that belongs to somebody else is not used.
func TestRecordFolderOfOther(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chown(folder, 1234, 1234); err != nil {
		t.Fatal(err)
	}
	if f, err := createRecord(folder, "0:1"); err == nil {
		f.Close()
		t.Error("a record was made in a folder of another user")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if f, err := createRecord(link, "0:1"); err == nil {
		f.Close()
		t.Error("a record was made behind a symbolic link")
	}
}
