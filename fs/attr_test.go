package fs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Times that a user sets stay, whatever is written to disk later; a write sets them
// anew; modes, owners and extended attributes are the backing file's.
func TestAttributes(t *testing.T) {
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: 50 * time.Millisecond})
	path, stored := d.path("f"), filepath.Join(back, "f.lazy")
	write(t, path, text(1, 40_000))
	when := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o4751); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 1234, 5678); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(path, "user.test", []byte("value"), 0); err != nil {
		t.Fatal(err)
	}
	check := func(path string) {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mtim.Nano() != when.UnixNano() || st.Atim.Nano() != when.UnixNano() {
			t.Errorf("%s: times %v %v, want %v", path, st.Atim, st.Mtim, when)
		}
		// chown(2) clears the set-user-ID bit.
		if st.Mode&0o7777 != 0o751 || st.Uid != 1234 || st.Gid != 5678 {
			t.Errorf("%s: mode %o, owner %d:%d", path, st.Mode, st.Uid, st.Gid)
		}
		var buf [16]byte
		if n, err := unix.Getxattr(path, "user.test", buf[:]); err != nil || string(buf[:n]) != "value" {
			t.Errorf("%s: xattr %q, %v", path, buf[:max(n, 0)], err)
		}
	}
	check(path)
	until(t, "the store is synced", func() bool {
		f, err := os.Open(stored)
		if err != nil {
			return false
		}
		defer f.Close()
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
	})
	check(path)
	check(stored)
	d.umount()
	check(stored)
	d = mountRW(t, back)
	path = filepath.Join(d.dir, "f")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	check(path)
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if st, err := os.Stat(path); err != nil || time.Since(st.ModTime()) > time.Minute {
		t.Errorf("mtime after a write: %v, %v", st.ModTime(), err)
	}
}

// A time that a user sets while the file is being synced and closed in the background
// stays, too, and nobody sees another one meanwhile.
func TestTimeBesideSync(t *testing.T) {
	const after = 20 * time.Millisecond
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: after})
	when := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	const files = 200
	var all sync.WaitGroup
	for i := range files {
		path := d.path(fmt.Sprint(i))
		write(t, path, text(uint64(i), 40_000))
		all.Go(func() {
			time.Sleep(rand.N(4 * after)) // waits for nothing: it picks a moment before, in or after a sync
			if err := os.Chtimes(path, when, when); err != nil {
				t.Error(err)
			}
			for end := time.Now().Add(2 * after); time.Now().Before(end); {
				var st unix.Statx_t
				if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC, unix.STATX_MTIME, &st); err != nil || st.Mtime.Sec != when.Unix() {
					t.Errorf("%s: mtime is %v, %v", path, st.Mtime, err)
					return
				}
			}
		})
	}
	all.Wait()
	d.umount()
	for i := range files {
		st, err := os.Stat(filepath.Join(back, fmt.Sprint(i)+".lazy"))
		if err != nil {
			t.Fatal(err)
		}
		if !st.ModTime().Equal(when) {
			t.Errorf("file %d: mtime is %v, want %v", i, st.ModTime(), when)
		}
	}
}

// stat, du and ls -s show what is stored of a file beside its plain size, as soon as
// it is closed and after that.
func TestBlocks(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	path := d.path("f")
	write(t, path, bytes.Repeat([]byte("much the same\n"), 50_000))
	check := func() {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Size != 700_000 || st.Blocks == 0 || st.Blocks*512 > 100_000 {
			t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
		}
		if got, want := run(t, "/", "du", "-B512", path), fmt.Sprintf("%d\t%s\n", st.Blocks, path); got != want {
			t.Errorf("du says %q, want %q", got, want)
		}
		if got, want := run(t, "/", "ls", "-s", "--block-size=512", path), fmt.Sprintf("%d %s\n", st.Blocks, path); got != want {
			t.Errorf("ls -s says %q, want %q", got, want)
		}
	}
	check()
	d.umount()
	d = start(t, mountSpec{Source: back, Dir: d.dir})
	check()
	if here, below := space(t, d.dir), space(t, back); here != below {
		t.Errorf("the mount has %d bytes in all, the file system below it %d", here, below)
	}
}

// Below a file system that is mounted inside of the folder, the space is that one's.
func TestSpaceBelowMount(t *testing.T) {
	back := t.TempDir()
	inner := filepath.Join(back, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", inner, "tmpfs", 0, "size=5m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(inner, unix.MNT_DETACH)
	d := mountRW(t, back)
	write(t, d.path("inner", "f"), []byte("f"))
	for _, path := range []string{d.path("inner"), d.path("inner", "f")} {
		if got := space(t, path); got != 5<<20 {
			t.Errorf("%s has %d bytes in all, want %d", path, got, 5<<20)
		}
	}
	d.umount()
}

// Files of several file systems that are mounted inside of the folder have numbers of their
// own, whatever those of the backing files are: programs tell hard links by them.
func TestNumbersBelowMount(t *testing.T) {
	back := t.TempDir()
	number := func(path string) uint64 {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	for _, name := range []string{"a", "b"} {
		dir := filepath.Join(back, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		write(t, filepath.Join(dir, "f"), nil)
	}
	if a, b := number(filepath.Join(back, "a", "f")), number(filepath.Join(back, "b", "f")); a != b {
		t.Fatalf("the first files of two file systems are numbers %d and %d", a, b)
	}
	d := mountRO(t, back)
	if a, b := number(d.path("a", "f")), number(d.path("b", "f")); a == b {
		t.Errorf("both files are number %d", a)
	}
	d.umount()
}

// space is the size of a file system, in bytes.
func space(t *testing.T, dir string) uint64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * uint64(st.Bsize)
}

// A file belongs to who creates it, and in a folder with the set-group-ID bit to
// the folder's group.
func TestCreatedOwner(t *testing.T) {
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, AllowOther: true})
	if err := os.Chmod(d.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	openUp(t, back)
	openUp(t, d.dir)
	if err := os.Mkdir(d.path("shared"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(d.path("shared"), 0, 77); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d.path("shared"), 0o777|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	as(t, 4321, 4322, d.dir, "umask 027; touch f; mkdir dir shared/dir; ln -s f link; mkfifo pipe; touch shared/f")
	for name, want := range map[string][3]uint32{
		"f": {0o100640, 4321, 4322}, "dir": {0o040750, 4321, 4322}, "link": {0o120777, 4321, 4322},
		"pipe": {0o010640, 4321, 4322}, "shared/f": {0o100640, 4321, 77}, "shared/dir": {0o042750, 4321, 77},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(d.path(name), &st); err != nil {
			t.Error(err)
		}
		if got := [3]uint32{st.Mode, st.Uid, st.Gid}; got != want {
			t.Errorf("%s: mode and owner %o %d %d, want %o %d %d", name, got[0], got[1], got[2], want[0], want[1], want[2])
		}
	}
	write(t, d.path("program"), []byte("x"))
	for _, change := range []string{"echo y >> program", "echo > program", "truncate -s 1 program"} {
		if err := os.Chmod(d.path("program"), 0o777|os.ModeSetuid|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
		as(t, 4321, 4322, d.dir, change)
		if st, err := os.Stat(d.path("program")); err != nil || st.Mode() != 0o777 {
			t.Errorf("%s by another user leaves mode %v, %v", change, st.Mode(), err)
		}
	}
	special := func() {
		t.Helper()
		if err := os.Chmod(d.path("program"), 0o777|os.ModeSetuid|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
	}
	special()
	onThreadOf(t, 4321, func() error { return unix.Truncate(d.path("program"), 2) })
	if st, err := os.Stat(d.path("program")); err != nil || st.Mode() != 0o777 {
		t.Errorf("truncate(2) by another user leaves mode %v, %v", st.Mode(), err)
	}
	// Who asks for the mode alone is told what the kernel believes it to be.
	special()
	as(t, 4321, 4322, d.dir, "dd if=/dev/zero of=program bs=4096 count=1 oflag=direct conv=notrunc 2>/dev/null")
	if mode := modeAlone(t, d.path("program")); mode != 0o777 {
		t.Errorf("a direct write by another user leaves mode %o", mode)
	}
	write(t, d.path("secret"), []byte("x"))
	if err := os.Chmod(d.path("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	as(t, 4321, 4322, d.dir, "! cat secret 2>/dev/null")
}

// modeAlone asks for the mode of a file and nothing else.
func modeAlone(t *testing.T, path string) uint16 {
	t.Helper()
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MODE, &st); err != nil {
		t.Fatal(err)
	}
	return st.Mode & 0o7777
}

// Access control lists are the backing file's: they let users in, keep them out,
// and the default of a folder takes the place of the umask.
func TestACL(t *testing.T) {
	back := t.TempDir()
	openUp(t, back)
	d := start(t, mountSpec{Source: back, Writable: true, AllowOther: true})
	openUp(t, d.dir)
	if err := os.Chmod(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, d.dir, "sh", "-ec", `
		echo secret > f; chmod 600 f; setfacl -m u:4321:r f
		mkdir dir; setfacl -d -m u::rwx,g::rx,o::-,u:4321:rwx,m::rwx dir
		umask 077; touch dir/new; mkdir dir/sub
	`)
	as(t, 4321, 4322, d.dir, "grep -q secret f && ! echo x > f 2>/dev/null")
	as(t, 4322, 4322, d.dir, "! cat f 2>/dev/null")
	want := "user::rw-\nuser:4321:rwx\t#effective:rw-\ngroup::r-x\t#effective:r--\nmask::rw-\nother::---\n\n"
	for _, path := range []string{d.path("dir/new"), filepath.Join(back, "dir/new.lazy")} {
		if got := run(t, "/", "getfacl", "-pcn", path); got != want {
			t.Errorf("%s has the ACL\n%swant\n%s", path, got, want)
		}
	}
	// Only a member of a file's group keeps its set-group-ID bit.
	for group, want := range map[uint32]uint16{4321: 0o2777, 4322: 0o777} {
		run(t, d.dir, "sh", "-ec", "rm -f g; touch g; chown 4321:4321 g; chmod 2755 g")
		as(t, 4321, group, d.dir, "setfacl -m u::rwx,g::rwx,o::rwx g")
		if mode := modeAlone(t, d.path("g")); mode != want {
			t.Errorf("setfacl by one of group %d leaves mode %o, want %o", group, mode, want)
		}
	}
	if got := run(t, "/", "getfacl", "-pcnd", d.path("dir/sub")); got != run(t, "/", "getfacl", "-pcnd", d.path("dir")) {
		t.Errorf("the folder inherits the default ACL\n%s", got)
	}
}

// Who may write to another user's file, but not run as that user, changes nothing of
// it by fallocate(2) that a set-user-ID bit outlives. Root's changes leave it.
func TestFallocateDropsPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	d := start(t, mountSpec{Source: t.TempDir(), Writable: true, AllowOther: true})
	for dir := d.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	for _, flag := range []string{"--length", "--punch-hole --length", "--zero-range --length"} {
		write(t, d.path("f"), text(1, 20_000))
		if err := os.Chmod(d.path("f"), 0o777|os.ModeSetuid|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
		run(t, d.dir, "sh", "-c", "fallocate "+flag+" 8192 f")
		if st, err := os.Stat(d.path("f")); err != nil || st.Mode() != 0o777|os.ModeSetuid|os.ModeSetgid {
			t.Errorf("root's fallocate %s: mode %v, %v", flag, st.Mode(), err)
		}
		run(t, d.dir, "setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups", "sh", "-c", "fallocate "+flag+" 8192 f")
		if st, err := os.Stat(d.path("f")); err != nil || st.Mode() != 0o777 {
			t.Errorf("another user's fallocate %s: mode %v, %v, want %v", flag, st.Mode(), err, os.FileMode(0o777))
		}
	}
	d.umount()
}

// A size that no store can have is one that is too large, not an error of the disk,
// and nothing that the log should tell.
func TestTooLarge(t *testing.T) {
	d := mountRW(t, t.TempDir())
	write(t, d.path("f"), text(1, 20_000))
	if err := unix.Truncate(d.path("f"), 1<<61); err != unix.EFBIG {
		t.Errorf("truncate to 2 EiB: %v, want %v", err, unix.EFBIG)
	}
	same(t, d.path("f"), text(1, 20_000))
	d.umount()
	if d.log.String() != "" {
		t.Errorf("the daemon says %q", d.log)
	}
}
