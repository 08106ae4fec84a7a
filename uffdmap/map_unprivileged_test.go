package uffdmap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

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

// runUnprivileged runs a body as an ordinary user, with a store of data, which it owns.
func runUnprivileged(t *testing.T, body string, uid uint32, data []byte) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lazyfs-test")
	must(t, "make a folder", err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = dir + "/test.lazy"
	must(t, "pack", packTo(path, data, store.CreateOptions{}))
	must(t, "give it away", errors.Join(os.Chown(path, int(uid), int(uid)), os.Chmod(dir, 0o755)))
	c := command(body, path)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	run(t, c, tooLong)
	return path
}

// An ordinary user, without the right to serve the kernel's own faults, can use
// everything but system calls on absent pages.
func TestMapUnprivileged(t *testing.T) {
	data := content(2<<20, 13)
	path := runUnprivileged(t, "unprivileged", 65534, data)
	data[70_000] = 0x42
	same(t, "store", unpack(t, path), data)
}

func init() { bodies["under way"] = underWayBody }

// underWayBody has more descriptors under way than a user may while it maps a store, and
// while new helpers are to be told of a mapping.
func underWayBody(args []string) error {
	sendPatience = 10 * time.Millisecond
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	in, out, err := socketPair()
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	few := unix.Rlimit{Cur: 100, Max: limit.Max}
	fds := make([]int, 2*few.Cur) // standard input, again and again
	err = errors.Join(unix.Setrlimit(unix.RLIMIT_NOFILE, &few), unix.Sendmsg(in, []byte{0}, unix.UnixRights(fds...), nil, 0))
	if err != nil {
		return err
	}
	if _, err := Map(args[0], Options{}); !errors.Is(err, unix.ETOOMANYREFS) {
		return fmt.Errorf("map: %w, want ETOOMANYREFS", err)
	}
	if _, err := m.Snapshot(); !errors.Is(err, unix.ETOOMANYREFS) {
		return fmt.Errorf("snapshot: %w, want ETOOMANYREFS", err)
	}
	m.client.mu.Lock()
	open := len(m.client.calls)
	m.client.mu.Unlock()
	if open > 0 {
		return fmt.Errorf("%d requests that were never sent are open", open)
	}
	if err := errors.Join(m.Prefetch(Range{0, m.Size()}), killBoth()); err != nil {
		return err
	}
	if m.Prefetch(Range{0, m.Size()}) == nil {
		return errors.New("helpers serve what they were not told of")
	}
	m.Close() // says the same
	closeAll([]int{in, out})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if m, err = Map(args[0], Options{}); err != nil {
		return err
	}
	return errors.Join(m.Prefetch(Range{0, m.Size()}), m.Close())
}

// A program whose user has too many descriptors under way, between whatever programs, gets
// errors and waits for nothing.
func TestMapDescriptorsUnderWay(t *testing.T) {
	runUnprivileged(t, "under way", 65533, content(1<<20, 13))
}
