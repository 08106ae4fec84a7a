package uffdmap

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// landlocked says that this kernel confines helpers to what they have open.
func landlocked() bool {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	return errno == 0 && abi > 0
}

func init() { bodies["confined"] = confinedBody }

// confinedBody confines itself as helpers do and then tries on each of several
// threads to get at what it has not open. The first argument is a file, the second says that files
// may be read.
func confinedBody(args []string) error {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer server.Close()
	open, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer open.Close()
	readFiles := args[1] != ""
	if err := confine(readFiles); err != nil {
		return err
	}
	if !landlocked() {
		return nil
	}
	refused := map[string]func() error{
		"write a file": func() error { _, err := os.OpenFile(args[0], os.O_WRONLY, 0); return err },
		"make a file":  func() error { return os.WriteFile(args[0]+".new", nil, 0o600) },
		"make a file without a name": func() error {
			_, err := unix.Open(filepath.Dir(args[0]), unix.O_TMPFILE|unix.O_RDWR, 0o600)
			return err
		},
		"remove a file":  func() error { return os.Remove(args[0]) },
		"make a folder":  func() error { return os.Mkdir(args[0]+".d", 0o700) },
		"write a device": func() error { _, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); return err },
		"connect":        func() error { _, err := net.Dial("tcp", server.Addr().String()); return err },
	}
	if !readFiles {
		refused["read a file"] = func() error { _, err := os.Open(args[0]); return err }
		refused["read a folder"] = func() error { _, err := os.ReadDir(filepath.Dir(args[0])); return err }
		refused["read /proc"] = func() error { _, err := os.Open("/proc/self/pagemap"); return err }
		refused["start a program"] = func() error {
			_, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
			return err
		}
	}
	allowed := map[string]func() error{
		"write what is open": func() error { _, err := open.WriteAt([]byte("x"), 0); return err },
		"cut what is open":   func() error { return open.Truncate(1) },
		"read its own program": func() error {
			f, err := os.Open("/proc/self/exe")
			return errors.Join(err, f.Close())
		},
	}
	const threads = 8
	var errs [threads]error
	var locked, all sync.WaitGroup
	locked.Add(threads)
	for i := range threads {
		all.Go(func() {
			runtime.LockOSThread()
			locked.Done()
			locked.Wait()
			for what, try := range refused {
				if err := try(); !errors.Is(err, unix.EACCES) {
					errs[i] = errors.Join(errs[i], fmt.Errorf("%s: %v, want EACCES", what, err))
				}
			}
			for what, try := range allowed {
				if err := try(); err != nil {
					errs[i] = errors.Join(errs[i], fmt.Errorf("%s: %v", what, err))
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs[:]...)
}

// A confined process can open nothing but its own program, and change nothing but
// what it has open, on whichever thread it tries. One that serves folders may read
// files.
func TestConfine(t *testing.T) {
	for _, readFiles := range []string{"", "too"} {
		file := filepath.Join(t.TempDir(), "file")
		must(t, "write", os.WriteFile(file, []byte("content"), 0o600))
		c := command("confined", file, readFiles)
		run(t, c, tooLong)
	}
}

// openingEnv names a file that pagers try to open whenever they read a frame.
const openingEnv = "LAZYFS_TEST_OPENING"

// An openingSource has no frames to give when its process can open a file.
type openingSource struct {
	store.Source
	file string
}

func (s openingSource) ReadFrame(n int64, dst []byte) (bool, error) {
	if f, err := os.Open(s.file); err == nil {
		f.Close()
		return false, fmt.Errorf("pager may open %s", s.file)
	}
	return s.Source.ReadFrame(n, dst)
}

// Both helpers of a mapping are confined, and so are those that succeed them, of
// whom no thread can gain privileges.
func TestHelpersConfined(t *testing.T) {
	path := pack(t, content(1<<20, 80), store.CreateOptions{})
	if landlocked() {
		t.Setenv(openingEnv, path)
	}
	m := mustMap(t, path, Options{Private: true})
	const rounds = 20 // more than the kernel stacks confinements
	for round := range rounds {
		eventually(t, "two helpers", func() bool { return bothHelp(os.Getpid()) })
		if v, fault := peek(m.Bytes(), round*50_000); fault != 0 {
			t.Fatalf("helper of round %d: byte is %#x, fault at %#x", round, v, fault)
		}
		for pid, name := range helpers(os.Getpid()) {
			threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
			for _, path := range threads {
				if b, err := os.ReadFile(path); err == nil && !strings.Contains(string(b), "NoNewPrivs:\t1") {
					t.Errorf("round %d: a thread of %s may gain privileges: %s", round, name, path)
				}
			}
		}
		old := helper(os.Getpid(), rolePager)
		must(t, "kill", unix.Kill(old, unix.SIGKILL))
		eventually(t, "end of a pager", func() bool { return ended(old) })
	}
	must(t, "close", m.Close())
}

// bothHelp says that program pid has a pager and a standby.
func bothHelp(pid int) bool { return helper(pid, rolePager) != 0 && helper(pid, roleStandby) != 0 }

// A store and a folder of page files can be mapped at once. Helpers of their own
// serve the folder, and its absent pages, when they have been succeeded as well.
func TestConfinedBesideFolder(t *testing.T) {
	data := content(1<<20, 81)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{})
	f := mustMap(t, writePages(t, data[:4*pageSize]), Options{Pages: "tmp%d.gz"})
	eventually(t, "four helpers", func() bool {
		count := map[string]int{}
		for _, name := range helpers(os.Getpid()) {
			count[name]++
		}
		return count["lazyfs-pager"] == 2 && count["lazyfs-standby"] == 2
	})
	same(t, "first page", f.Bytes()[:pageSize], data[:pageSize])
	for pid, name := range helpers(os.Getpid()) {
		if name == "lazyfs-pager" {
			must(t, "kill", unix.Kill(pid, unix.SIGKILL))
		}
	}
	same(t, "folder", f.Bytes(), data[:4*pageSize])
	same(t, "store", m.Bytes(), data)
	must(t, "close", errors.Join(f.Close(), m.Close()))
	if h := helpers(os.Getpid()); len(h) > 0 {
		t.Errorf("helpers %v are left", h)
	}
}
