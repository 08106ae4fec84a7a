package fs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// netRaw is security.capability with cap_net_raw+ep, in version 2 of
// linux/capability.h.
func netRaw() []byte {
	b := make([]byte, 20)
	binary.LittleEndian.PutUint32(b, 0x02000001)
	binary.LittleEndian.PutUint32(b[4:], 1<<unix.CAP_NET_RAW)
	return b
}

// listed returns the names of the extended attributes of a file, each with a zero behind it.
func listed(path string) (string, error) {
	buf := make([]byte, 1000)
	n, err := unix.Listxattr(path, buf)
	return string(buf[:max(n, 0)]), err
}

func hasCapability(t *testing.T, path string) bool {
	t.Helper()
	n, err := unix.Getxattr(path, "security.capability", make([]byte, 64))
	if err != nil && err != unix.ENODATA {
		t.Fatal(err)
	}
	return n == 20
}

// File capabilities stay when the daemon writes what was written before they were set,
// and go with the next write.
func TestCapabilityStays(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(text(1, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(d.path("f"), "security.capability", netRaw(), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil || !hasCapability(t, d.path("f")) {
		t.Errorf("after fsync, which gave %v, there are no capabilities", err)
	}
	f.Close()
	path := filepath.Join(back, "f.lazy")
	until(t, "the store is closed", func() bool { return unlocked(path) })
	if !hasCapability(t, d.path("f")) || !hasCapability(t, path) {
		t.Error("once the store is closed there are no capabilities")
	}
	if f, err = os.OpenFile(d.path("f"), os.O_WRONLY, 0); err == nil {
		_, err = f.Write([]byte("x"))
		err = errors.Join(err, f.Close())
	}
	if err != nil || hasCapability(t, d.path("f")) {
		t.Errorf("after a write, which gave %v, there are capabilities", err)
	}
	d.umount()
	if hasCapability(t, path) {
		t.Error("in the store there are capabilities after a write")
	}
}

// The same holds for the set-user-ID bit where the daemon is not root's.
func TestSetUserIDStays(t *testing.T) {
	const nobody = 65534
	back, dir := foldersOf(t, nobody)
	d := startCopy(t, mountSpec{Source: back, Dir: dir, Writable: true, SyncAfter: time.Millisecond}, &syscall.Credential{Uid: nobody, Gid: nobody})
	as(t, nobody, nobody, dir, "seq 20000 > f; chmod 4755 f; sync f; test -u f")
	path := filepath.Join(back, "f.lazy")
	until(t, "the store is closed", func() bool { return unlocked(path) })
	as(t, nobody, nobody, dir, "test -u f; test -u "+path)
	as(t, nobody, nobody, dir, "truncate -s 8M g; chmod 4755 g")
	mapped := filepath.Join(back, "g.lazy")
	until(t, "the store is closed", func() bool { return unlocked(mapped) })
	as(t, nobody, nobody, dir, mapEnv+"=g "+d.cmd.Path)
	until(t, "the store is closed", func() bool { return unlocked(mapped) })
	as(t, nobody, nobody, dir, "test -u g; test -u "+mapped)
	as(t, nobody, nobody, dir, "exec 5>>f; echo x >&5; exec 5>&-; test ! -u f")
	as(t, nobody, nobody, dir, "chmod 4755 f; echo x >>f; sync f; chmod 755 f; test ! -u f")
	as(t, nobody, nobody, "/", "fusermount3 -u "+dir)
	d.wait()
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o755 {
		t.Errorf("at the end: %v, %v", fi, err)
	}
}

// Capabilities stay that a plain file gets while somebody has it open, although the
// kernel hands over later what was written before.
func TestCapabilitiesOfWrittenPlain(t *testing.T) {
	back := t.TempDir()
	write(t, filepath.Join(back, "f"), nil)
	d := mountRW(t, back)
	f, err := os.OpenFile(d.path("f"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(text(1, 10_000)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(d.path("f"), "security.capability", netRaw(), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if !hasCapability(t, filepath.Join(back, "f")) {
		t.Error("after close the file has no capabilities")
	}
}

// Capabilities that a file has can be taken from it, as the kernel does before a write,
// also where the daemon has just written to the store.
func TestCapabilityGoes(t *testing.T) {
	d := mountRW(t, t.TempDir())
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(text(1, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(d.path("f"), "security.capability", netRaw(), 0); err != nil {
		t.Fatal(err)
	}
	other, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(other); err != nil { // It commits.
		t.Fatal(err)
	}
	if err := unix.Removexattr(d.path("f"), "security.capability"); err != nil {
		t.Errorf("taking the capabilities: %v", err)
	}
	if err := f.Close(); err != nil || hasCapability(t, d.path("f")) {
		t.Errorf("after close, which gave %v, there are capabilities", err)
	}
}

// A user may change a file of his that root has given capabilities, and these go with that.
func TestUserChangesCapable(t *testing.T) {
	const nobody = 65534
	back, dir := foldersOf(t, nobody)
	as(t, nobody, nobody, back, "echo content >plain")
	startCopy(t, mountSpec{Source: back, Dir: dir, Writable: true, SyncAfter: time.Millisecond}, &syscall.Credential{Uid: nobody, Gid: nobody})
	for _, change := range []string{"echo new >>%s", "echo new >%s", "truncate -s 3 %s", "fallocate --punch-hole --length 3 %s"} {
		for name, path := range map[string]string{"store": filepath.Join(back, "store.lazy"), "plain": filepath.Join(back, "plain")} {
			as(t, nobody, nobody, dir, "echo content >"+name)
			until(t, "the file is closed", func() bool { return unlocked(path) })
			if err := unix.Setxattr(path, "security.capability", netRaw(), 0); err != nil {
				t.Fatal(err)
			}
			act := fmt.Sprintf(change, name)
			as(t, nobody, nobody, dir, act)
			until(t, "the file is closed", func() bool { return unlocked(path) })
			if hasCapability(t, path) {
				t.Errorf("after %s the file has capabilities", act)
			}
		}
	}
}

// Capabilities stay when somebody writes to a mapping of the file, and go when somebody
// writes to the file, as on any file system.
func TestCapabilityOfMapped(t *testing.T) {
	back := t.TempDir()
	write(t, filepath.Join(back, "plain"), text(1, 100_000))
	d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: time.Millisecond})
	write(t, d.path("store"), text(1, 100_000))
	for _, name := range []string{"plain", "store"} {
		path := d.path(name)
		has := func(want bool, after string) {
			t.Helper()
			if hasCapability(t, path) != want {
				t.Errorf("%s: after %s it has capabilities: %t", name, after, !want)
			}
		}
		if err := unix.Setxattr(path, "security.capability", netRaw(), 0); err != nil {
			t.Fatal(err)
		}
		until(t, "the file is closed", func() bool { return d.counters().Files == 0 })
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		mem, err := unix.Mmap(int(f.Fd()), 0, 100_000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		copy(mem, "mapped")
		if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
			t.Fatal(err)
		}
		has(true, "msync")
		if got, err := listed(path); err != nil || got != "security.capability\x00" {
			t.Errorf("%s: after msync the names of its attributes are %q, %v", name, got, err)
		}
		copy(mem, "again")
		if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setxattr(path, "security.capability", netRaw(), unix.XATTR_CREATE); err != unix.EEXIST {
			t.Errorf("%s: giving capabilities that are there: %v, want %v", name, err, unix.EEXIST)
		}
		copy(mem, "at last")
		if err := errors.Join(unix.Munmap(mem), f.Close()); err != nil {
			t.Fatal(err)
		}
		until(t, "the file is closed", func() bool { return d.counters().Files == 0 })
		has(true, "close")
		if f, err = os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			_, err = f.Write([]byte("written"))
		}
		if err != nil {
			t.Fatal(err)
		}
		has(false, "write")
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		has(false, "close")
	}
}

// A user may change a file of somebody else that he may write to, and takes the
// set-user-ID bit from it.
func TestUserChangesSetUserID(t *testing.T) {
	const nobody = 65534
	back, dir := foldersOf(t, nobody)
	backing := map[string]string{"plain": filepath.Join(back, "plain"), "store": filepath.Join(back, "store.lazy")}
	write(t, backing["plain"], text(1, 50_000))
	pack(t, backing["store"], text(1, 50_000))
	startCopy(t, mountSpec{Source: back, Dir: dir, Writable: true, SyncAfter: time.Millisecond}, &syscall.Credential{Uid: nobody, Gid: nobody})
	for _, change := range []string{"echo new >>%s", "truncate -s 3000 %s", "fallocate --punch-hole --length 2000 %s", "echo new >%s"} {
		for name, path := range backing {
			if err := errors.Join(os.Chown(path, 4321, 4321), os.Chmod(path, 0o766|os.ModeSetuid)); err != nil {
				t.Fatal(err)
			}
			act := fmt.Sprintf(change, name)
			as(t, nobody, nobody, dir, act)
			until(t, "the file is closed", func() bool { return unlocked(path) })
			if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o766 {
				t.Errorf("after %s: %v, %v, want %v", act, fi.Mode(), err, os.FileMode(0o766))
			}
		}
	}
}
