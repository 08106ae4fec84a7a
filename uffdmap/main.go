package uffdmap

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// helperEnv tells a process that it is a helper, and which. Its value is a role.
const helperEnv = "LAZYFS_HELPER"

// The roles of a helper.
const (
	rolePager   = "pager"
	roleStandby = "standby"
)

// The descriptors that a helper is born with, besides standard error.
const (
	fdProgram = 3 // connection to the program
	fdPager   = 4 // of a standby: connection to the pager
)

// mainCalled says that this program can be its own helper.
var mainCalled bool

// names are those that this helper wants to have, see setName.
var names = make(chan string)

func init() {
	// The name of a process is that of its first thread, where packages are
	// initialised: a helper's main goroutine stays there and gives it.
	if os.Getenv(helperEnv) != "" {
		runtime.LockOSThread()
	}
}

// Main makes the running program able to be the helper of its own served
// mappings: Map starts the program once more, as its pager, and Main is where
// that process goes. Call it first thing in main, and first thing in TestMain:
//
//	func main() {
//		uffdmap.Main()
//		…
//	}
//
// In the program itself Main returns at once. In a helper it never returns: the
// process serves until the program has ended or closed its last mapping, and
// exits. What the program does before Main, the initialisation of its packages
// for instance, happens in the helpers too. From the first standby on they are
// born confined and can't open files: an initialisation that ends the program
// over that leaves its pager without one.
//
// A program that does not call Main is served by the lazyfs command, when that
// lies beside the program's executable or in PATH.
func Main() {
	mainCalled = true
	role := os.Getenv(helperEnv)
	if role == "" || !isSocket(fdProgram) {
		return
	}
	setUpHelper()
	ended := make(chan error)
	go func() { ended <- runHelper(role) }()
	for {
		select {
		case name := <-names:
			nameThread(name)
		case err := <-ended:
			if err != nil {
				log.printf("%v", err)
				exit(3)
			}
			exit(0)
		}
	}
}

func runHelper(role string) error {
	switch role {
	case rolePager:
		return runPager()
	case roleStandby:
		return runStandby()
	}
	return fmt.Errorf("%s is %q", helperEnv, role)
}

func isSocket(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

// setUpHelper makes a helper independent of how its program was started.
func setUpHelper() {
	// A service manager stops the whole group, a terminal interrupts it; the
	// program may still want to sync. A helper ends when the program has. It may
	// write to a terminal of which it does not have the foreground, and to a pipe
	// that nobody reads any more.
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGTTOU, unix.SIGPIPE)
	go log.write(os.Stderr)
	// The workers spend their time in system calls. While there is a P to spare the
	// runtime leaves each its own meanwhile; otherwise it takes that away in long
	// calls, and has another thread look for something to do with it.
	runtime.GOMAXPROCS(minWorkers() + 2)
	debug.SetGCPercent(100)
	debug.SetMemoryLimit(math.MaxInt64)
	for fd := fdProgram; fd <= fdPager; fd++ {
		unix.CloseOnExec(fd)
	}
}

// setName shows the role of this process in ps and top: lazyfs-pager for
// instance.
func setName(role string) { names <- "lazyfs-" + role }

func nameThread(name string) {
	b := append([]byte(name), 0)
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0)
}

// ErrNoHelper says that nothing can be started as the pager: the program does
// not call Main, and no lazyfs command was found.
var ErrNoHelper = errors.New("no helper program: call uffdmap.Main first thing in main, or put lazyfs beside the program or into PATH")

// helperProgram finds what to start as the pager.
func helperProgram() (string, error) {
	if mainCalled {
		// The link leads to the running program even when its file was replaced.
		return "/proc/self/exe", nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "lazyfs")
		if unix.Access(beside, unix.X_OK) == nil {
			return beside, nil
		}
	}
	found, err := exec.LookPath("lazyfs")
	if err != nil {
		return "", ErrNoHelper
	}
	return filepath.Abs(found)
}

// startHelper starts program as a helper with these descriptors from fdProgram
// on, and null, which leads nowhere, for the program's standard input and output.
// A pager leads a process group of its own, away from the program's terminal, in
// the program's session: Linux divides a core among sessions, and one whose threads
// yield without pause, as Go's collector makes them do until a page comes, can keep
// it from another for seconds. A standby is born into the group, as a child of its
// pager's parent: so all helpers are children of the program they serve, which
// reaps the group. The caller owns the pidfd.
func startHelper(program, role string, null int, fds ...int) (pid, pidfd int, err error) {
	stderr := uintptr(unix.Stderr)
	if _, err := unix.FcntlInt(stderr, unix.F_GETFD, 0); err != nil {
		stderr = uintptr(null)
	}
	files := []uintptr{uintptr(null), uintptr(null), stderr}
	for _, fd := range fds {
		files = append(files, uintptr(fd))
	}
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, helperEnv+"=") })
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(env, helperEnv+"="+role),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setpgid: role == rolePager, PidFD: &pidfd},
	}
	if role == roleStandby {
		attr.Sys.Cloneflags = unix.CLONE_PARENT
	}
	pid, err = syscall.ForkExec(program, []string{"lazyfs", "pager"}, attr)
	if err != nil {
		return 0, -1, fmt.Errorf("start %s: %w", role, &os.PathError{Op: "exec", Path: program, Err: err})
	}
	return pid, pidfd, nil
}
