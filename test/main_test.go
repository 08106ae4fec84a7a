// Package test tests lazyfs as a whole: the command line as a user runs it, and
// what no single package can promise alone.
package test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/uffdmap"
)

// binary is the path of the lazyfs program under test.
var binary string

func TestMain(m *testing.M) {
	uffdmap.Main() // does not return when this process is a helper
	if signal.Ignored(unix.SIGHUP) {
		// Under nohup(1). What is caught here is no more ignored in the programs that
		// are started.
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "lazyfs-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	// Tests run the program as other users too.
	if err := os.Chmod(folder, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(folder, "lazyfs")
	build := exec.Command("go", "build", "-o", binary, "lazyfs/cmd/lazyfs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build lazyfs: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
