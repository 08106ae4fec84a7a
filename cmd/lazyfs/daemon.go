package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyFlag is the hidden flag by which a daemon knows its pipe.
const readyFlag = "ready-fd"

// startDaemon runs this program's command line again as a daemon in a session
// of its own, and returns when its mount is ready. Until then the daemon shares
// standard error: it tells the user itself what is wrong, and its exit code
// becomes this program's.
func startDaemon(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	// Flags before the command's name are the command's.
	args := append([]string{"--foreground", "--" + readyFlag + "=3"}, os.Args[1:]...)
	daemon := exec.Command(self, args...)
	daemon.Args[0] = os.Args[0]
	daemon.Stderr = os.Stderr
	daemon.ExtraFiles = []*os.File{w}
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What the shell holds in descriptors, such as locks and pipes, is not the daemon's.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return os.NewSyscallError("close_range", err)
	}
	err = daemon.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	if err := waitReadable(ctx, int(r.Fd())); err != nil {
		_ = daemon.Process.Signal(unix.SIGTERM)
		_ = daemon.Wait()
		return err
	}
	if n, _ := r.Read(make([]byte, 1)); n == 1 {
		return daemon.Process.Release()
	}
	err = daemon.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return toldError(exit.ExitCode())
	}
	return fmt.Errorf("the daemon ended before it was ready: %v", daemon.ProcessState)
}
