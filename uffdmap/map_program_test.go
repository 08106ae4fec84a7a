package uffdmap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

func init() { bodies["abandon"] = abandonBody }

// abandonBody writes before and after a Sync and waits to be killed.
func abandonBody(args []string) error {
	m, err := Map(args[0], Options{Writable: true, MemoryLimit: 1 << 20})
	if err != nil {
		return err
	}
	for i := range m.Size() {
		m.Bytes()[i] = 1
	}
	if err := m.Sync(); err != nil {
		return err
	}
	for i := range m.Size() {
		m.Bytes()[i] = 2
	}
	fmt.Println("written")
	select {}
}

// A killed program leaves its store as at the last Sync, and no helper.
func TestMapProgramKilled(t *testing.T) {
	path := pack(t, content(3<<20, 23), store.CreateOptions{})
	c := command("abandon", path)
	c.Stderr = os.Stderr
	waitFor(t, c, "written\n")
	served := helpers(c.Process.Pid)
	if len(served) != 2 {
		t.Errorf("helpers are %v, want two", served)
	}
	c.Process.Kill()
	c.Wait()
	for pid := range served {
		eventually(t, fmt.Sprintf("end of helper %d", pid), func() bool { return ended(pid) })
	}
	if !bytes.Equal(unpack(t, path), bytes.Repeat([]byte{1}, 3<<20)) {
		t.Error("store is not as at the last Sync")
	}
	// A standby that the pager had just started may hold the lock for a moment.
	var s *store.Store
	var err error
	eventually(t, "the store's lock", func() bool {
		s, err = store.Open(path, store.Options{Writable: true})
		return !errors.Is(err, ErrLocked)
	})
	must(t, "open for writing", err)
	s.Close()
}

// waitFor starts c and waits until it prints line.
func waitFor(t *testing.T, c *exec.Cmd, line string) {
	t.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	dog := watch(c, tooLong)
	defer dog.stop()
	if got, err := bufio.NewReader(out).ReadString('\n'); got != line {
		t.Fatalf("%v: printed %q, want %q (%v)", c.Args[1:], got, line, err)
	}
}

func init() { bodies["pending"] = pendingBody }

// pendingBody touches frames that don't come and waits to be killed.
func pendingBody(args []string) error {
	m, err := Map(args[0], Options{Private: true})
	if err != nil {
		return err
	}
	for i := range 6 {
		go func() { m.Bytes()[(2*i+1)<<14]++ }()
	}
	if err := await("faults", func() bool { return m.Stats().Faults >= 2 }); err != nil {
		return err
	}
	fmt.Println("waiting")
	select {}
}

// A program that is killed while it waits for pages ends, and so do its helpers,
// although they still read from the store.
func TestMapKilledWaiting(t *testing.T) {
	c := command("pending", pack(t, content(1<<20, 40), store.CreateOptions{}))
	c.Env = append(c.Env, stuckEnv+"="+t.TempDir(), "GOMAXPROCS=8")
	waitFor(t, c, "waiting\n")
	served := helpers(c.Process.Pid)
	c.Process.Kill()
	c.Wait()
	for pid := range served {
		eventually(t, fmt.Sprintf("end of helper %d", pid), func() bool { return ended(pid) })
	}
}

// writeFromChild has a forked child write the byte at p to fd, and returns the
// child's errno as its exit status. The child shares nothing with the runtime of
// its parent and so makes system calls only.
//
//go:norace
//go:nosplit
func writeFromChild(fd int, p *byte) (pid uintptr, errno unix.Errno) {
	pid, _, errno = unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	_, _, errno = unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(p)), 1)
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(errno), 0, 0)
	}
}

// A forked child has no memory where a mapping of its parent is: it neither sees
// zeros there nor makes any.
func TestFork(t *testing.T) {
	data := content(1<<20, 41)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Private: true})
	v := openView(t, path, Options{})
	s, err := v.View(0, 1)
	must(t, "view", err)
	defer s.Release()
	_ = m.Bytes()[0]
	r, w, err := os.Pipe()
	must(t, "pipe", err)
	defer r.Close()
	defer w.Close()
	for what, p := range map[string]*byte{
		"resident page":         &m.Bytes()[0],
		"absent page":           &m.Bytes()[1<<19],
		"page of a View":        &s.Bytes()[0],
		"absent page of a View": &v.mem.b[1<<19],
	} {
		pid, errno := writeFromChild(int(w.Fd()), p)
		if errno != 0 {
			t.Fatalf("fork: %v", errno)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(int(pid), &status, 0, nil); err != nil {
			t.Fatal(err)
		}
		if got := unix.Errno(status.ExitStatus()); !status.Exited() || got != unix.EFAULT {
			t.Errorf("%s in a child: %v (%#x), want EFAULT", what, got, status)
		}
	}
	if !bytes.Equal(m.Bytes(), data) {
		t.Error("mapping differs from what was packed")
	}
}

// A program that drops pages of its own mapping never finds zeros. MADV_DONTNEED
// changes nothing; a page that it punched out is again as at the last Sync.
func TestMapProgramDrops(t *testing.T) {
	for _, limit := range []int64{0, 512 << 10} {
		data := content(2<<20, 42)
		path := pack(t, data, store.CreateOptions{})
		m := mustMap(t, path, Options{Writable: true, MemoryLimit: limit})
		check := func(when string) {
			t.Helper()
			same(t, fmt.Sprintf("limit %d, %s", limit, when), m.Bytes(), data)
		}
		write := func(at int) {
			data[at]++
			m.Bytes()[at] = data[at]
		}
		check("at first")
		for at := 0; at < len(data); at += 50_000 {
			write(at)
		}
		must(t, "MADV_DONTNEED", unix.Madvise(m.mem, unix.MADV_DONTNEED))
		check("after MADV_DONTNEED")
		for at := 0; at < len(data); at += 50_000 {
			write(at)
		}
		must(t, "sync", m.Sync())
		// Frame 3 has unsynced writes in a page that goes and in one that stays.
		const page, frame = 4096, 16 << 10
		m.Bytes()[3*frame+1*page]++
		write(3*frame + 2*page)
		must(t, "MADV_REMOVE", unix.Madvise(m.mem[2*frame:3*frame+2*page], unix.MADV_REMOVE))
		check("after MADV_REMOVE")
		must(t, "MADV_REMOVE", unix.Madvise(m.mem[8*frame:20*frame], unix.MADV_REMOVE))
		write(9*frame + 5)
		check("after another")
		must(t, "close", m.Close())
		same(t, "store", unpack(t, path), data)
	}
}

func init() { bodies["split"] = splitBody }

// splitBody gives pages of a mapping other properties than their neighbours have,
// as mprotect, mlock and madvise do, and then reads and writes all.
func splitBody(args []string) error {
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	for i, split := range []func(pages []byte) error{
		func(p []byte) error { return unix.Madvise(p, unix.MADV_SEQUENTIAL) },
		func(p []byte) error { return unix.Mprotect(p, unix.PROT_READ) },
		func(p []byte) error { return unix.Madvise(p, unix.MADV_DONTDUMP) },
		unix.Mlock,
	} {
		m, err := Map(args[0], Options{Private: true})
		if err != nil {
			return err
		}
		for at := 3 * pageSize; at+pageSize < len(m.mem); at += 23 * pageSize {
			if err := split(m.mem[at : at+pageSize]); err != nil {
				return fmt.Errorf("split %d: %w", i, err)
			}
		}
		if !bytes.Equal(m.Bytes(), data) {
			return fmt.Errorf("split %d: mapping differs from the file", i)
		}
		if err := unix.Mprotect(m.mem, unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return err
		}
		for at := range m.Bytes() {
			m.Bytes()[at]++
		}
		if err := m.Close(); err != nil {
			return err
		}
	}
	return nil
}

// A program may give parts of a mapping properties of their own: it is in several
// pieces for the kernel then, and for nobody else.
func TestMapSplit(t *testing.T) {
	path, plain := storeAndPlain(t, 4<<20, 43)
	run(t, command("split", path, plain), tooLong)
}
