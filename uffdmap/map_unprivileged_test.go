package uffdmap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

func init() { bodies["unprivileged"] = unprivilegedBody }

// unprivilegedBody uses a served mapping as an ordinary user.
func unprivilegedBody(args []string) error {
	data := content(2<<20, 13)
	m, err := Map(args[0], Options{Writable: true})
	if err != nil {
		return err
	}
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := null.Write(m.Bytes()[:4096]); err != nil {
		return fmt.Errorf("write to /dev/null: %w", err)
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	_, err = f.Read(m.Bytes()[1<<20 : 1<<20+100])
	if !errors.Is(err, unix.EFAULT) {
		return fmt.Errorf("read(2) into an absent page: %v, want EFAULT", err)
	}
	if !bytes.Equal(m.Bytes(), data) {
		return errors.New("mapping differs from what was packed")
	}
	m.Bytes()[70_000] = 0x42
	if err := killPager(); err != nil {
		return err
	}
	if err := m.Sync(); err != nil {
		return err
	}
	return m.Close()
}

// An ordinary user, without the right to serve the kernel's own faults, can use
// everything but system calls on absent pages.
func TestMapUnprivileged(t *testing.T) {
	const nobody = 65534
	data := content(2<<20, 13)
	dir, err := os.MkdirTemp("/tmp", "lazyfs-test")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := dir + "/test.lazy"
	err = errors.Join(packTo(path, data, store.CreateOptions{}), os.Chown(path, nobody, nobody), os.Chmod(dir, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	c := command("unprivileged", path)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	run(t, c, tooLong)
	data[70_000] = 0x42
	if !bytes.Equal(unpack(t, path), data) {
		t.Error("store differs from what was written")
	}
}
