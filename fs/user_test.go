package fs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// runDaemon runs a daemon that is expected to end by itself.
func runDaemon(spec mountSpec) ([]byte, error) {
	arg, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), daemonEnv+"="+string(arg))
	return cmd.CombinedOutput()
}

// as runs a shell script as another user.
func as(t *testing.T, uid, gid uint32, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as user %d: %s: %v\n%s", uid, script, err, out)
	}
}

// openUp lets other users through the folders above dir that the test made.
func openUp(t *testing.T, dir string) {
	t.Helper()
	for at := filepath.Dir(dir); at != "/" && at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// foldersOf makes a folder for stores and one to mount on, which belong to a user, who
// may mount.
func foldersOf(t *testing.T, uid int) (back, dir string) {
	t.Helper()
	letUsersMount(t)
	back, dir = t.TempDir(), t.TempDir()
	for _, path := range []string{back, dir} {
		openUp(t, path)
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	return back, dir
}

// An ordinary user mounts through fusermount3, works there, and unmounts.
func TestOrdinaryUser(t *testing.T) {
	const nobody = 65534
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Fatal("fusermount3 is not installed (Debian package fuse3)")
	}
	back, dir := foldersOf(t, nobody)
	spec := mountSpec{Source: back, Dir: dir, Writable: true}
	user := &syscall.Credential{Uid: nobody, Gid: nobody}
	d := startCopy(t, spec, user)
	as(t, nobody, nobody, dir, "seq 20000 > numbers; mkdir sub; mv numbers sub/n; chmod 600 sub/n; ln -s sub/n link; tail -n 1 link | grep -qx 20000")
	as(t, nobody, nobody, "/", "fusermount3 -u "+dir)
	d.wait()
	if got := unpack(t, filepath.Join(back, "sub", "n.lazy")); !bytes.HasSuffix(got, []byte("\n20000\n")) {
		t.Error("the store is not what was written")
	}
	d = startCopy(t, spec, user)
	as(t, nobody, nobody, dir, "tail -n 1 link | grep -qx 20000")
	d.terminate()
}

// A mount of an ordinary user that is in use is taken out of sight in the end.
func TestTerminateBusyOfUser(t *testing.T) {
	const nobody = 65534
	back, dir := foldersOf(t, nobody)
	user := &syscall.Credential{Uid: nobody, Gid: nobody}
	d := startCopy(t, mountSpec{Source: back, Dir: dir, Writable: true}, user)
	holder := exec.Command("sh", "-ec", "echo held >f; exec 3<f; echo; read end")
	holder.Dir = dir
	holder.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer holder.Wait()
	defer in.Close()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	d.terminate()
	if err := unix.Unmount(dir, 0); err != unix.EINVAL {
		t.Errorf("umount of what is gone: %v, want %v", err, unix.EINVAL)
	}
	if got := unpack(t, filepath.Join(back, "f.lazy")); string(got) != "held\n" {
		t.Errorf("the store has %q", got)
	}
}

// What its owner makes unreadable keeps its name, and is not taken for something new.
func TestUnreadableKeepsName(t *testing.T) {
	const nobody = 65534
	back, dir := foldersOf(t, nobody)
	spec := mountSpec{Source: back, Dir: dir, Writable: true}
	d := startCopy(t, spec, &syscall.Credential{Uid: nobody, Gid: nobody})
	as(t, nobody, nobody, dir, "echo hi >f; echo ho >w; sync f w; chmod 000 f; chmod 200 w")
	for _, name := range []string{"f.lazy", "w.lazy"} {
		until(t, name+" is closed", func() bool { return unlocked(filepath.Join(back, name)) })
	}
	as(t, nobody, nobody, "/", "fusermount3 -u "+dir)
	d.wait()
	d = startCopy(t, spec, &syscall.Credential{Uid: nobody, Gid: nobody})
	as(t, nobody, nobody, dir, "test \"$(ls)\" = \"$(printf 'f\\nw')\"; ! cat f; ! echo more >>w; chmod 644 f w; cat f | grep -qx hi; echo more >>w")
	as(t, nobody, nobody, "/", "fusermount3 -u "+dir)
	d.wait()
	if got := unpack(t, filepath.Join(back, "w.lazy")); string(got) != "ho\nmore\n" {
		t.Errorf("w is %q", got)
	}
	if got := names(t, back); len(got) != 2 {
		t.Errorf("there are %v", got)
	}
}

// A new file that its owner can't read, in a folder that he can't list, is synced with its
// name, and so is the folder.
func TestFsyncUnreadable(t *testing.T) {
	const nobody = 65534
	back, dir := foldersOf(t, nobody)
	d := startCopy(t, mountSpec{Source: back, Dir: dir, Writable: true}, &syscall.Credential{Uid: nobody, Gid: nobody})
	onThreadOf(t, nobody, func() error {
		if err := os.Mkdir(d.path("folder"), 0o700); err != nil {
			return err
		}
		folder, err := os.Open(d.path("folder"))
		if err != nil {
			return err
		}
		f, err := os.Create(d.path("folder", "f"))
		if err != nil {
			return err
		}
		_, err = f.WriteString("hi\n")
		return errors.Join(err, folder.Chmod(0o300), f.Chmod(0), f.Sync(), folder.Sync(), f.Close(), folder.Close())
	})
	d.terminate()
	if got := unpack(t, filepath.Join(back, "folder", "f.lazy")); string(got) != "hi\n" {
		t.Errorf("f is %q", got)
	}
}

// startCopy is start with a copy of the test binary that other users can run.
func startCopy(t *testing.T, spec mountSpec, user *syscall.Credential) *daemon {
	t.Helper()
	dir := t.TempDir()
	openUp(t, dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "daemon")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return startProgram(t, program, spec, user)
}

// letUsersMount gives /dev/fuse the mode that udev gives it, for the test.
func letUsersMount(t *testing.T) {
	t.Helper()
	st, err := os.Stat("/dev/fuse")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("/dev/fuse", 0o666); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod("/dev/fuse", st.Mode().Perm()) })
}

// Who is not the owner reads what the modes let him in a mount of one store, and of a
// folder on a file system without access control lists.
func TestNoAccessLists(t *testing.T) {
	const nobody, other = 65534, 4321
	folder := t.TempDir()
	if err := unix.Mount("none", folder, "ramfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(folder, 0)
	pack(t, filepath.Join(folder, "store.lazy"), []byte("one\n"))
	if err := os.Chown(folder, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{folder, filepath.Join(folder, "store.lazy")} {
		d := start(t, mountSpec{Source: source, AllowOther: true})
		openUp(t, d.dir)
		for _, user := range []uint32{0, other} {
			as(t, user, user, d.dir, "ls -l && cat store")
		}
		d.umount()
	}
}

// A user writes, syncs and touches files that are not his own and that he may write to.
func TestFilesOfOthers(t *testing.T) {
	const nobody = 65534
	back, dir := foldersOf(t, nobody)
	plain, stored := filepath.Join(back, "plain"), filepath.Join(back, "store.lazy")
	write(t, plain, []byte("one\n"))
	pack(t, stored, []byte("one\n"))
	past := time.Unix(1_000_000_000, 0)
	for _, path := range []string{plain, stored} {
		if err := errors.Join(os.Chmod(path, 0o666), os.Chtimes(path, past, past)); err != nil {
			t.Fatal(err)
		}
	}
	d := startCopy(t, mountSpec{Source: back, Dir: dir, Writable: true}, &syscall.Credential{Uid: nobody, Gid: nobody})
	for _, name := range []string{"plain", "store"} {
		as(t, nobody, nobody, dir, "touch "+name)
		as(t, nobody, nobody, dir, "! touch -d 2020-01-01 "+name)
		onThreadOf(t, nobody, func() error {
			f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("two\n")
			time.Sleep(20 * time.Millisecond) // The end of the write is not that of the clock's tick.
			err = errors.Join(err, f.Sync())
			_, e := f.WriteString("three\n")
			time.Sleep(20 * time.Millisecond)
			return errors.Join(err, e, os.Rename(d.path(name), d.path("other")), os.Rename(d.path("other"), d.path(name)), f.Close())
		})
	}
	d.terminate()
	same(t, plain, []byte("one\ntwo\nthree\n"))
	if got := unpack(t, stored); string(got) != "one\ntwo\nthree\n" {
		t.Errorf("the store holds %q", got)
	}
	for _, path := range []string{plain, stored} {
		if since := time.Since(mtimeOf(t, path)); since > time.Hour {
			t.Errorf("%s was changed %v ago", path, since)
		}
	}
	// Who does not own a file can't give it the times that users see, which is told once.
	if n := strings.Count(d.log.String(), "store.lazy: set times: "); n != 1 {
		t.Errorf("the daemon says %d times that it can't set times:\n%s", n, d.log)
	}
}

// Who makes a plain file that nobody may write to writes it all the same, and cuts one
// that he has open although its mode has changed.
func TestWriteReadOnlyPlain(t *testing.T) {
	const nobody = 65534
	back, dir := foldersOf(t, nobody)
	write(t, filepath.Join(back, "f.lazy"), []byte("no store, but in the place of one"))
	d := startCopy(t, mountSpec{Source: back, Dir: dir, Writable: true}, &syscall.Credential{Uid: nobody, Gid: nobody})
	onThreadOf(t, nobody, func() error {
		f, err := os.OpenFile(d.path("f"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
		if err != nil {
			return err
		}
		_, err = f.WriteString("one\ntwo\n")
		if err = errors.Join(err, f.Close(), os.Chmod(d.path("f"), 0o644)); err != nil {
			return err
		}
		if f, err = os.OpenFile(d.path("f"), os.O_RDWR, 0); err != nil {
			return err
		}
		return errors.Join(f.Chmod(0o444), f.Truncate(4), f.Close())
	})
	d.terminate()
	same(t, filepath.Join(back, "f"), []byte("one\n"))
}

// onThreadOf calls do on a thread that belongs to a user.
func onThreadOf(t *testing.T, id uintptr, do func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		// What package syscall does is for all threads.
		_, _, err := unix.RawSyscall(unix.SYS_SETRESGID, id, id, id)
		if err == 0 {
			_, _, err = unix.RawSyscall(unix.SYS_SETRESUID, id, id, id)
		}
		if err != 0 {
			done <- err
		} else {
			done <- do()
		}
		select {} // The end of the thread would be that of the daemons that it has started.
	}()
	if err := <-done; err != nil {
		t.Errorf("as user %d: %v", id, err)
	}
}
