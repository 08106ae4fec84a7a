package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A locker is another process that takes locks when it is told to.
type locker struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

const lockerEnv = "LAZYFS_TEST_LOCKER"

// TestLockerProcess is the other process of the tests below; on its own it does
// nothing. Each line of its input is "lock", "pin N" or "unpin N", each line of
// its output what came of it.
func TestLockerProcess(t *testing.T) {
	path := os.Getenv(lockerEnv)
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Println("ready", f.Name())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, number, _ := strings.Cut(lines.Text(), " ")
		gen, _ := strconv.ParseUint(number, 10, 64)
		switch word {
		case "lock":
			err = lockWriter(f)
		case "pin":
			err = pin(f, gen)
		case "unpin":
			err = unpin(f, gen)
		}
		fmt.Println("did", lines.Text(), err)
	}
}

func startLocker(t *testing.T, path string) *locker {
	t.Helper()
	l := &locker{t: t, cmd: exec.Command("/proc/self/exe", "-test.run=^TestLockerProcess$")}
	l.cmd.Env = append(os.Environ(), lockerEnv+"="+path)
	l.cmd.Stderr = os.Stderr
	in, err := l.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.in, l.out = in, bufio.NewScanner(out)
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.kill)
	l.expect("ready " + path)
	return l
}

func (l *locker) expect(want string) {
	l.t.Helper()
	if !l.out.Scan() || l.out.Text() != want {
		l.t.Fatalf("other process said %q, want %q", l.out.Text(), want)
	}
}

func (l *locker) do(order string) {
	l.t.Helper()
	if _, err := fmt.Fprintln(l.in, order); err != nil {
		l.t.Fatal(err)
	}
	l.expect("did " + order + " <nil>")
}

// kill ends the process with SIGKILL; when it returns the process is gone.
func (l *locker) kill() {
	if l.cmd.ProcessState == nil {
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
	}
}

func lockFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// One process at a time has the writer's lock; the other is told which. A lock
// ends with its process.
func TestLockWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	f := lockFile(t, path)
	other := startLocker(t, path)
	other.do("lock")

	err := lockWriter(f)
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", other.cmd.Process.Pid))
	holder := fmt.Sprintf("process %d (%s)", other.cmd.Process.Pid, strings.TrimSpace(string(comm)))
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), holder) || !strings.Contains(err.Error(), path) {
		t.Errorf("lock that another process has: %v, want ErrLocked with %q and %q", err, path, holder)
	}
	other.kill()
	if err := lockWriter(f); err != nil {
		t.Errorf("lock of a killed process: %v", err)
	}
}

// The lock belongs to the open file: who is handed its descriptor has it, and
// keeps it when the process that took it is gone; another open file, even of
// the same process, does not.
func TestLockWriterIsHandedOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	f := lockFile(t, path)
	if err := lockWriter(f); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	dup := os.NewFile(uintptr(fd), path)
	defer dup.Close()
	if err := lockWriter(dup); err != nil {
		t.Errorf("lock through a copy of the descriptor: %v", err)
	}
	f.Close()
	second := lockFile(t, path)
	err = lockWriter(second)
	if self := fmt.Sprintf("process %d ", os.Getpid()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), self) {
		t.Errorf("lock through another open file: %v, want ErrLocked by %q", err, self)
	}
	if err := lockWriter(dup); err != nil {
		t.Errorf("lock after the first descriptor is closed: %v", err)
	}
}

// A process that took the lock and ended may have left it to another one: the
// message says so instead of naming a process that is not there.
func TestLockHolderGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	f := lockFile(t, path)
	other := startLocker(t, path)
	if got := describeProcess(other.cmd.Process.Pid); !strings.HasPrefix(got, "process ") {
		t.Errorf("running process is called %q", got)
	}
	other.kill()
	if got := describeProcess(other.cmd.Process.Pid); !strings.Contains(got, "has ended") {
		t.Errorf("ended process is called %q", got)
	}
	if got := lockHolder(f); got != "another process" {
		t.Errorf("holder of a free lock is %q", got)
	}
}

// wantOldest compares what f sees with what is pinned.
func wantOldest(t *testing.T, f *os.File, below, want uint64, wantOK bool) {
	t.Helper()
	gen, ok, err := oldestPin(f, below)
	if err != nil || ok != wantOK || ok && gen != want {
		t.Errorf("oldest pin below %d: %d, %v, %v, want %d, %v", below, gen, ok, err, want, wantOK)
	}
}

// The writer sees the oldest generation that any process reads, below the one
// that it asks about; a reader that is killed pins nothing any more.
func TestPins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	f := lockFile(t, path)
	if err := lockWriter(f); err != nil {
		t.Fatal(err)
	}
	wantOldest(t, f, maxGeneration, 0, false)
	a, b, c := startLocker(t, path), startLocker(t, path), startLocker(t, path)
	for _, order := range []string{"pin 70", "pin 12", "pin 40", "pin 13"} {
		a.do(order)
	}
	b.do("pin 9")
	b.do("pin 12")
	c.do("pin 0")
	c.do(fmt.Sprintf("pin %d", uint64(maxGeneration)))
	wantOldest(t, f, maxGeneration, 0, true)
	wantOldest(t, f, 0, 0, false)
	c.kill()
	wantOldest(t, f, maxGeneration, 9, true)
	wantOldest(t, f, 10, 9, true)
	wantOldest(t, f, 9, 0, false)
	b.do("unpin 9")
	wantOldest(t, f, maxGeneration, 12, true)
	a.do("unpin 12")
	wantOldest(t, f, maxGeneration, 12, true)
	b.kill()
	wantOldest(t, f, maxGeneration, 13, true)
	a.do("unpin 13")
	wantOldest(t, f, maxGeneration, 40, true)
	wantOldest(t, f, 40, 0, false)
	a.kill()
	wantOldest(t, f, maxGeneration+1, 0, false)
}

// A Store does not see its own pin, but that of another Store in the same
// process; and pins are no hindrance to the writer's lock.
func TestPinsInOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	writer, reader := lockFile(t, path), lockFile(t, path)
	for gen, f := range []*os.File{writer, reader} {
		if err := pin(f, uint64(gen+5)); err != nil {
			t.Fatal(err)
		}
	}
	wantOldest(t, writer, 100, 6, true)
	wantOldest(t, reader, 100, 5, true)
	if err := lockWriter(writer); err != nil {
		t.Errorf("writer's lock beside pins: %v", err)
	}
	reader.Close()
	wantOldest(t, writer, 100, 0, false)
}

// A store that was closed, or that can't be opened, is neither locked nor pinned any
// more though somebody has a copy of its descriptor, as a child has between fork and
// exec; the lock of a shared one stays.
func TestCopiedDescriptor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	s, err := Create(path, CreateOptions{})
	must(t, err)
	mustWrite(t, s, noise(10_000, 1), 0)
	copied := func(f *os.File) {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
	}
	copied(s.f)
	must(t, s.Close())
	for _, end := range []func(*Store) error{(*Store).Close, (*Store).Discard} {
		s, err = Open(path, Options{Writable: true})
		must(t, err)
		copied(s.f)
		must(t, end(s))
	}

	r, err := Open(path, Options{})
	must(t, err)
	copied(r.f)
	gen := r.Generation()
	f := lockFile(t, path)
	wantOldest(t, f, gen+1, gen, true)
	must(t, r.Close())
	wantOldest(t, f, gen+1, 0, false)

	bad := lockFile(t, filepath.Join(t.TempDir(), "bad.lazy"))
	copied(bad)
	if _, err := OpenFile(bad, Options{Writable: true}); err == nil {
		t.Fatal("an empty file is opened as a store")
	}
	must(t, lockWriter(lockFile(t, bad.Name())))

	copied(f)
	s, err = OpenFile(f, Options{Writable: true, Shared: true})
	must(t, err)
	must(t, s.Close())
	if _, err = Open(path, Options{Writable: true}); !errors.Is(err, ErrLocked) {
		t.Errorf("open beside a shared lock: %v, want ErrLocked", err)
	}
}

// Where another program locks bytes that stand for generations, the answers
// stay on the safe side: the oldest generation counts as in use, a reader is
// turned away, and nothing loops.
func TestForeignLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	f, foreign := lockFile(t, path), lockFile(t, path)
	lk := unix.Flock_t{Type: unix.F_WRLCK} // the whole file, as NFS locks it
	if err := unix.FcntlFlock(foreign.Fd(), unix.F_OFD_SETLK, &lk); err != nil {
		t.Fatal(err)
	}
	wantOldest(t, f, 7, 0, true)
	if err := pin(f, 7); !errors.Is(err, ErrLocked) {
		t.Errorf("pin under a foreign lock: %v, want ErrLocked", err)
	}
}

// A file system that has no locks is told apart from other failures.
func TestNoLocks(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EINVAL, unix.ENOLCK, unix.ENOSYS, unix.EOPNOTSUPP} {
		if err := lockError("fcntl", errno); !errors.Is(err, errNoLocks) || !errors.Is(err, errno) {
			t.Errorf("%v becomes %v, want errNoLocks", errno, err)
		}
	}
	closed := lockFile(t, filepath.Join(t.TempDir(), "s.lazy"))
	closed.Close()
	if err := pin(closed, 1); err == nil || errors.Is(err, errNoLocks) {
		t.Errorf("pin through a closed file: %v, want another error than errNoLocks", err)
	}
	if _, _, err := oldestPin(closed, 1); err == nil || errors.Is(err, errNoLocks) {
		t.Errorf("oldest pin through a closed file: %v, want another error than errNoLocks", err)
	}
}

// Where the writer can't see who reads, it never overwrites, punches or cuts off
// what any generation named, however often the store is overwritten, and neither does
// the next writer.
func TestNoLocksNoReuse(t *testing.T) {
	blind := lockFile(t, filepath.Join(t.TempDir(), "s.lazy"))
	blind.Close()
	d := &simDisk{}
	s, err := createDisk(d, blind, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	named := map[int64]int64{} // offset of what a generation named → end
	for i := range 60 {
		step{what: "write", n: 9 * MinFrameSize, seed: uint64(1 + 3*i)}.do(s, newPlainFile(nil))
		must(t, s.Sync())
		s.idx.scan(0, 9, func(_ int64, e entry) bool {
			named[e.off()] = e.extent().end()
			return true
		})
		written := len(d.now)
		if i%10 == 9 {
			s.Close() // The closed file is an error of it.
			s, err = openDisk(d, blind, Options{Writable: true})
			must(t, err)
		}
		if len(d.now) < written {
			t.Errorf("round %d: the file is cut from %d bytes to %d", i, written, len(d.now))
		}
		for off, end := range named {
			if h, ok := getFrameHead(d.now[off:]); !ok || off+frameHeadLen+int64(h.payload) > end ||
				frameSum(d.now[off:off+frameHeadLen+int64(h.payload)], s.idSum) != h.sum {
				t.Fatalf("round %d: the frame at %#x is overwritten", i, off)
			}
		}
	}
	if len(named) != 60*9 {
		t.Errorf("%d frames were named, want %d: one place served twice", len(named), 60*9)
	}
}

func BenchmarkOldestPin(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s.lazy")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for b.Loop() {
		if _, _, err := oldestPin(f, 1000); err != nil {
			b.Fatal(err)
		}
	}
}
