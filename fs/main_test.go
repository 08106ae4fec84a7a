package fs_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/fs"
	"lazyfs/store"
)

// daemonEnv holds what a process of this test binary is to mount: a test that
// touched a mount served by its own process could wait for itself.
const daemonEnv = "LAZYFS_TEST_MOUNT"

// mapEnv holds the path of the file for which a process of this test binary is to do fillMapped.
const mapEnv = "LAZYFS_TEST_MAP"

// A mountSpec is what a daemon mounts.
type mountSpec struct {
	Source, Dir string
	Writable    bool
	AllowOther  bool
	FrameSize   int
	SyncAfter   time.Duration
	Descriptors uint64 // that the daemon may have; zero: as many as the test
	Ceiling     bool   // serve what Source holds uncompressed

	// GetXAttrAt is what getxattrat(2) fails with in the daemon, on an older kernel
	// (ENOSYS) or in a sandbox (EPERM) say, Fsync what fsync(2) does, and Fdatasync what
	// fdatasync(2) does. Zero: nothing.
	GetXAttrAt, Fsync, Fdatasync unix.Errno
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(daemonEnv); spec != "" {
		os.Exit(serve(spec))
	}
	if path := os.Getenv(mapEnv); path != "" {
		if err := fillMapped(path); err != nil {
			log.Fatal(err)
		}
		os.Exit(0)
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		fmt.Fprintf(os.Stderr, "these tests need FUSE: %v\n", err)
		os.Exit(1)
	} else {
		f.Close()
	}
	os.Exit(m.Run())
}

// serve mounts, says "ready", and ends with the mount or by SIGTERM.
func serve(spec string) int {
	var s mountSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		log.Fatal(err)
	}
	if s.Descriptors > 0 {
		lim := unix.Rlimit{Cur: s.Descriptors, Max: s.Descriptors}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			log.Fatal(err)
		}
	}
	mount := fs.Mount
	if s.Ceiling {
		mount = fs.MountCeiling
	}
	server, err := mount(s.Source, s.Dir, fs.Options{
		Writable:   s.Writable,
		AllowOther: s.AllowOther,
		FrameSize:  s.FrameSize,
		SyncAfter:  s.SyncAfter,
		CacheBytes: 16 << 20,
		Log:        log.New(os.Stderr, "", 0),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for nr, errno := range map[uint32]unix.Errno{
		unix.SYS_GETXATTRAT: s.GetXAttrAt,
		unix.SYS_FSYNC:      s.Fsync,
		unix.SYS_FDATASYNC:  s.Fdatasync,
	} {
		if errno == 0 {
			continue
		}
		if err := refuse(nr, errno); err != nil {
			log.Fatal(err)
		}
	}
	runtime.GOMAXPROCS(fs.Procs())
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		server.Unmount() // Wait returns its error.
	}()
	fmt.Println("ready")
	if err := server.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// A daemon is a process that serves a mount.
type daemon struct {
	t    testing.TB
	dir  string
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan error // receives the end of the process once
}

// A syncBuffer is a buffer that a process may write to while a test reads it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start mounts spec in a process of its own; Dir is made when empty. The test ends
// with the mount gone, whatever happened.
func start(t testing.TB, spec mountSpec) *daemon {
	t.Helper()
	return startProgram(t, os.Args[0], spec, nil)
}

// startProgram is start with a copy of the test binary, as another user.
func startProgram(t testing.TB, program string, spec mountSpec, as *syscall.Credential) *daemon {
	t.Helper()
	if spec.Dir == "" {
		spec.Dir = t.TempDir()
	}
	arg, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, dir: spec.Dir, log: &syncBuffer{}, done: make(chan error, 1)}
	d.cmd = exec.Command(program, "-test.run=^$")
	// Under the race detector a process would wait for a second before it ends.
	d.cmd.Env = append(os.Environ(), daemonEnv+"="+string(arg), "GORACE=atexit_sleep_ms=0")
	d.cmd.Stderr = d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	go func() { d.done <- d.cmd.Wait() }()
	t.Cleanup(d.clean)
	if line != "ready\n" {
		t.Fatalf("mount of %s: %v: %s", spec.Source, <-d.done, d.log)
	}
	return d
}

func mountRW(t *testing.T, source string) *daemon {
	t.Helper()
	return start(t, mountSpec{Source: source, Writable: true})
}

func mountRO(t *testing.T, source string) *daemon {
	t.Helper()
	return start(t, mountSpec{Source: source})
}

// clean ends the daemon by force if the test has not ended it.
func (d *daemon) clean() {
	d.cmd.Process.Kill()
	unix.Unmount(d.dir, unix.MNT_DETACH)
	if d.t.Failed() {
		d.t.Logf("the daemon's log:\n%s", d.log)
	}
}

// umount ends the mount as umount(8) does, and waits for the daemon's end. Somebody
// else on the machine may use the mount for a moment: df(1), or who reads links in
// /proc. What the test itself has open still, stays open.
func (d *daemon) umount() {
	d.t.Helper()
	err := unix.Unmount(d.dir, 0)
	for begin := time.Now(); err == unix.EBUSY && time.Since(begin) < 2*time.Second; err = unix.Unmount(d.dir, 0) {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		d.t.Fatalf("umount: %v", err)
	}
	d.wait()
}

// terminate sends SIGTERM and waits for the daemon's end.
func (d *daemon) terminate() {
	d.t.Helper()
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.wait()
}

func (d *daemon) wait() {
	d.t.Helper()
	select {
	case err := <-d.done:
		if err != nil {
			d.t.Errorf("daemon: %v", err)
		}
	case <-time.After(20 * time.Second):
		d.t.Fatal("the daemon does not end")
	}
}

// kill ends the daemon with SIGKILL and takes the dead mount away.
func (d *daemon) kill() {
	d.t.Helper()
	d.cmd.Process.Kill()
	<-d.done
	if err := unix.Unmount(d.dir, unix.MNT_DETACH); err != nil {
		d.t.Fatal(err)
	}
}

// path is a path in the mount.
func (d *daemon) path(names ...string) string {
	return filepath.Join(append([]string{d.dir}, names...)...)
}

// pack makes a store with content at path.
func pack(t *testing.T, path string, content []byte) {
	t.Helper()
	s, err := store.Create(path, store.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// unpack returns the plain content of the store at path, which must be sound.
func unpack(t *testing.T, path string) []byte {
	t.Helper()
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Check(t.Context(), func(d *store.DamageError) { t.Errorf("check: %v", d) }, nil)
	if err != nil {
		t.Errorf("check %s: %v", path, err)
	}
	b := make([]byte, s.Size())
	if _, err := s.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

// text is n bytes that compress about as well as text does.
func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = fmt.Appendf(b, "%x %d\n", r.Uint32N(5000), len(b))
	}
	return b[:n]
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// same fails unless the file at path has the content want.
func same(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes read, differ from the %d wanted at %#x", path, len(got), len(want), firstDiff(got, want))
	}
}

func firstDiff(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// run runs a program and returns its output.
func run(t *testing.T, dir string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// until polls a condition that another process brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
