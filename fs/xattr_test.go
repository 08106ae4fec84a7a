package fs_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/fs"
)

// attribute returns an extended attribute, or why there is none.
func attribute(path, name string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Getxattr(path, name, buf)
	return string(buf[:max(n, 0)]), err
}

// Ratio, codec and frames of a store are extended attributes that can be read by
// name, on mounts of either kind, and are neither listed nor changed nor copied.
func TestOwnAttributes(t *testing.T) {
	back := t.TempDir()
	for _, spec := range []mountSpec{{Source: back, Writable: true, FrameSize: 64 << 10}, {Source: back}} {
		d := start(t, spec)
		if spec.Writable {
			write(t, d.path("f"), text(1, 1<<20))
			write(t, filepath.Join(back, "plain"), nil)
		}
		for name, want := range map[string]string{
			"ratio": `^[1-9]\.\d\d$`, "codec": `^lz4$`, "frames": `^65536 lz4=16$`,
		} {
			got, err := attribute(d.path("f"), "user.lazyfs."+name)
			if err != nil || !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("%s of a store: %q, %v, want %s", name, got, err, want)
			}
		}
		for path, name := range map[string]string{"f": "other", "plain": "ratio", ".": "codec"} {
			if got, err := attribute(d.path(path), "user.lazyfs."+name); err != unix.ENODATA {
				t.Errorf("%s of %s: %q, %v, want %v", name, path, got, err, unix.ENODATA)
			}
		}
		if n, err := unix.Getxattr(d.path("f"), "user.lazyfs.codec", make([]byte, 2)); err != unix.ERANGE {
			t.Errorf("2 bytes for the codec: %d, %v, want %v", n, err, unix.ERANGE)
		}
		if n, err := unix.Listxattr(d.path("f"), make([]byte, 1000)); n != 0 || err != nil {
			t.Errorf("%d bytes of names listed, %v, want none", n, err)
		}
		want := unix.EPERM
		if !spec.Writable {
			want = unix.EROFS
		}
		for _, name := range []string{"codec", "other"} {
			if err := unix.Setxattr(d.path("f"), "user.lazyfs."+name, []byte("zstd"), 0); err != want {
				t.Errorf("set %s: %v, want %v", name, err, want)
			}
			if err := unix.Removexattr(d.path("f"), "user.lazyfs."+name); err != want {
				t.Errorf("remove %s: %v, want %v", name, err, want)
			}
		}
		out := t.TempDir()
		run(t, out, "cp", "-a", d.path("f"), "cp")
		run(t, out, "rsync", "-aX", d.path("f"), "rsync")
		for _, copied := range []string{"cp", "rsync"} {
			if n, err := unix.Listxattr(filepath.Join(out, copied), nil); n != 0 || err != nil {
				t.Errorf("%s copies %d bytes of names of attributes, %v", copied, n, err)
			}
		}
		d.umount()
	}
}

// An attribute of the backing file is that of the file in the mount, open or not, and
// a symbolic link does not lead to it.
func TestBackingAttributes(t *testing.T) {
	for name, refused := range map[string]unix.Errno{"as it is": 0, "older kernel": unix.ENOSYS, "sandbox": unix.EPERM} {
		t.Run(name, func(t *testing.T) { backingAttributes(t, refused) })
	}
}

func backingAttributes(t *testing.T, getXAttrAt unix.Errno) {
	back := t.TempDir()
	pack(t, filepath.Join(back, "store.lazy"), text(1, 10_000))
	write(t, filepath.Join(back, "plain"), nil)
	if err := os.Symlink("plain", filepath.Join(back, "link")); err != nil {
		t.Fatal(err)
	}
	d := start(t, mountSpec{Source: back, GetXAttrAt: getXAttrAt})
	for backing, name := range map[string]string{"store.lazy": "store", "plain": "plain"} {
		if err := unix.Setxattr(filepath.Join(back, backing), "user.note", []byte("value"), 0); err != nil {
			t.Fatal(err)
		}
		for _, open := range []bool{false, true} {
			if open {
				f, err := os.Open(d.path(name))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
			}
			if got, err := attribute(d.path(name), "user.note"); got != "value" || err != nil {
				t.Errorf("%s, open: %t: %q, %v, want the value", name, open, got, err)
			}
			if n, err := unix.Getxattr(d.path(name), "user.note", nil); n != 5 || err != nil {
				t.Errorf("%s, open: %t: %d bytes, %v, want 5", name, open, n, err)
			}
			if n, err := unix.Getxattr(d.path(name), "user.note", make([]byte, 4)); err != unix.ERANGE {
				t.Errorf("%s, open: %t: 4 bytes of 5: %d, %v, want %v", name, open, n, err, unix.ERANGE)
			}
		}
	}
	// Only root may set one that a link can have.
	if err := unix.Setxattr(filepath.Join(back, "plain"), "trusted.note", []byte("value"), 0); err == nil {
		if n, err := unix.Lgetxattr(d.path("link"), "trusted.note", make([]byte, 99)); err != unix.ENODATA {
			t.Errorf("a link: %d, %v, want %v", n, err, unix.ENODATA)
		}
	}
}

// The folder of a mount of one store is none of the backing file system: it has no
// attributes of the one in which the store lies, and gives it none.
func TestSingleFolderAttributes(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "store.lazy")
	pack(t, path, text(1, 10_000))
	if err := unix.Setxattr(back, "user.note", []byte("value"), 0); err != nil {
		t.Fatal(err)
	}
	d := mountRW(t, path)
	if got, err := attribute(d.dir, "user.note"); err != unix.EOPNOTSUPP {
		t.Errorf("get: %q, %v, want %v", got, err, unix.EOPNOTSUPP)
	}
	if got, err := listed(d.dir); err != unix.EOPNOTSUPP {
		t.Errorf("list: %q, %v, want %v", got, err, unix.EOPNOTSUPP)
	}
	if err := unix.Setxattr(d.dir, "user.note", nil, 0); err != unix.EOPNOTSUPP {
		t.Errorf("set: %v, want %v", err, unix.EOPNOTSUPP)
	}
	if err := unix.Removexattr(d.dir, "user.note"); err != unix.EOPNOTSUPP {
		t.Errorf("remove: %v, want %v", err, unix.EOPNOTSUPP)
	}
	d.umount()
	if got, err := attribute(back, "user.note"); got != "value" || err != nil {
		t.Errorf("the folder of the store has %q, %v, want the value", got, err)
	}
}

// The counters of a mount tell what was done through it, and what it has open.
func TestCounters(t *testing.T) {
	back := t.TempDir()
	pack(t, filepath.Join(back, "bad.lazy"), text(1, 100_000))
	d := mountRW(t, back)
	counters := func() (c fs.Counters) {
		t.Helper()
		got, err := attribute(d.dir, fs.CountersAttr)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(got), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := counters(); c.PID != d.cmd.Process.Pid || c.Uptime <= 0 || c.MemoryBytes < 1<<20 || c.CacheBytes != 16<<20 ||
		c.Reads != 0 || c.Writes != 0 || c.Handles != 0 || c.Files != 0 {
		t.Errorf("counters of a new mount: %+v", c)
	}
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(text(1, 50_000)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(back, "bad.lazy"), 10_000)
	if _, err := os.ReadFile(d.path("bad")); !errors.Is(err, syscall.EIO) {
		t.Errorf("damaged file: %v, want %v", err, syscall.EIO)
	}
	names(t, d.dir)
	c := counters()
	if c.WrittenBytes != 50_000 || c.Writes == 0 || c.Syncs != 1 || c.Opens != 2 || c.Reads == 0 || c.IOErrors == 0 ||
		c.Listings == 0 || c.Lookups == 0 || c.Nodes < 3 || c.Handles == 0 || c.Files == 0 {
		t.Errorf("counters after use: %+v", c)
	}
	if _, err := attribute(d.path("f"), fs.CountersAttr); err != unix.ENODATA {
		t.Errorf("counters of a file: %v, want %v", err, unix.ENODATA)
	}
	if got, err := attribute(d.path("f"), "user.none"); err != unix.ENODATA {
		t.Errorf("an attribute that is not there: %q, %v", got, err)
	}
	single := mountRO(t, filepath.Join(back, "bad.lazy"))
	if got, err := attribute(single.dir, fs.CountersAttr); err != nil || !strings.Contains(got, `"reads":0`) {
		t.Errorf("counters of a mount of one store: %q, %v", got, err)
	}
}

// An error that no file system may tell the kernel, as NFS has some, hangs nobody.
func TestForbiddenErrorIsEIO(t *testing.T) {
	const notSupported = unix.Errno(524) // ENOTSUPP (include/linux/errno.h)
	back := t.TempDir()
	write(t, filepath.Join(back, "plain"), nil)
	d := start(t, mountSpec{Source: back, GetXAttrAt: notSupported})
	got := make(chan error, 1)
	go func() {
		_, err := unix.Getxattr(d.path("plain"), "user.note", nil)
		got <- err
	}()
	select {
	case err := <-got:
		if err != unix.EIO {
			t.Errorf("getxattr: %v, want %v", err, unix.EIO)
		}
	case <-time.After(20 * time.Second):
		t.Error("getxattr does not return")
		d.kill()
	}
}
