package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pack that is interrupted says so and leaves nothing: neither for a pipe
// that never ends nor for a folder.
func TestInterruptedPack(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, unix.SIGTERM, unix.SIGHUP} {
		dir := t.TempDir()
		c := command(dir, "pack", "-", "x.lazy")
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		var errs bytes.Buffer
		c.Stderr = &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// More than a pipe holds: when this returns, pack has read from it.
		if _, err := in.Write(text(1, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if err := c.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait() // the exit code is checked below
		failed(t, result{err: errs.String(), code: c.ProcessState.ExitCode()}, 3, "lazyfs pack: interrupted\n")
		if got := list(t, dir); len(got) != 0 {
			t.Errorf("interrupted pack left %q", got)
		}
	}
}

// A pack of a named pipe waits for who writes to it, and can be interrupted meanwhile.
func TestInterruptedPackNamedPipe(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	start := func() (*exec.Cmd, *bytes.Buffer) {
		c := command(dir, "pack", "--quiet", "pipe", "x.lazy")
		var errs bytes.Buffer
		c.Stderr = &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill() }) // fails when it has ended
		eventually(t, "pack has opened the pipe", func() bool {
			links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.Process.Pid))
			return slices.ContainsFunc(links, func(link string) bool {
				to, _ := os.Readlink(link)
				return to == dir+"/pipe"
			})
		})
		return c, &errs
	}
	c, errs := start()
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // the exit code is checked below
	failed(t, result{err: errs.String(), code: c.ProcessState.ExitCode()}, 3, "lazyfs pack: interrupted\n")
	if got := list(t, dir); !slices.Equal(got, []string{"pipe"}) {
		t.Errorf("interrupted pack left %q", got)
	}

	c, errs = start()
	plain := text(1, 1<<20)
	if err := os.WriteFile(dir+"/pipe", plain, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("%v: %s", err, errs)
	}
	if got := must(t, dir, "cat", "x.lazy"); got != string(plain) {
		t.Errorf("the store holds %d other bytes, want the %d written to the pipe", len(got), len(plain))
	}
}

// An interrupted pack of a folder removes all that it had made.
func TestInterruptedPackFolder(t *testing.T) {
	dir, c, errs := packNoise(t)
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // the exit code is checked below
	failed(t, result{err: errs.String(), code: c.ProcessState.ExitCode()}, 3, "lazyfs pack: interrupted\n")
	if got := list(t, dir); !slices.Equal(got, []string{"src"}) {
		t.Errorf("interrupted pack left %q", got)
	}
}

// What is killed leaves nothing of a folder under its name.
func TestKilledPackFolder(t *testing.T) {
	dir, c, _ := packNoise(t)
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // it was killed
	if got := list(t, dir); len(got) != 2 || !strings.HasPrefix(got[0], ".lazyfs-") || !strings.HasSuffix(got[0], ".tmp") || got[1] != "src" {
		t.Errorf("killed pack left %q, want .lazyfs-*.tmp and src", got)
	}
}

// packNoise packs the folder src, which takes long, and returns once that has begun. In
// the folder dir there is nothing else before.
func packNoise(t *testing.T) (dir string, c *exec.Cmd, errs *bytes.Buffer) {
	t.Helper()
	dir, errs = t.TempDir(), new(bytes.Buffer)
	for i := range 50 {
		write(t, fmt.Sprintf("%s/src/%d", dir, i), noise(uint64(i), 2<<20))
	}
	c = command(dir, "pack", "src", "dst", "--jobs", "1", "--codec", "zstd", "--level", "9")
	c.Stderr = errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pack has begun", func() bool { return len(list(t, dir)) == 2 })
	return dir, c, errs
}

// A closed terminal, of which the shell and the kernel may tell one after the other,
// interrupts a pack of a folder as Ctrl-C does, which removes all that it had made.
func TestHungUpPackFolder(t *testing.T) {
	dir := t.TempDir()
	for i := range 3000 {
		write(t, fmt.Sprintf("%s/src/%d", dir, i), nil)
	}
	write(t, dir+"/src/last", noise(1, 7<<20))
	c := command(dir, "pack", "src", "dst", "--jobs", "1", "--codec", "zstd", "--level", "9")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pack has begun", func() bool { return len(list(t, dir)) == 2 })
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	eventually(t, "pack has ended", func() bool {
		_ = c.Process.Signal(unix.SIGHUP) // fails once it has ended
		return len(ended) > 0
	})
	if code := c.ProcessState.ExitCode(); code != 3 {
		t.Errorf("pack ends with %v, want exit code 3", c.ProcessState)
	}
	if got := list(t, dir); !slices.Equal(got, []string{"src"}) {
		t.Errorf("pack left %q", got)
	}
}

// Whoever writes to a pipe that nobody reads can be interrupted all the same.
func TestInterruptedOutput(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 4<<20))
	must(t, dir, "pack", "--frame", "4K", "plain", "x.lazy")
	for _, args := range [][]string{{"cat", "x.lazy"}, {"unpack", "x.lazy", "-"}, {"dump", "x.lazy"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		full, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := command(dir, args...)
		var errs bytes.Buffer
		c.Stdout, c.Stderr = w, &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		eventually(t, "the pipe is full", func() bool {
			n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
			return err != nil || n == full
		})
		if err := c.Process.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
		_ = c.Wait() // the exit code is checked below
		late.Stop()
		failed(t, result{err: errs.String(), code: c.ProcessState.ExitCode()}, 3, "lazyfs "+args[0]+": interrupted\n")
	}
}

// Under nohup(1) a closed terminal interrupts nothing.
func TestPackNohup(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command("nohup", binary, "pack", "-", "x.lazy")
	c.Dir = dir
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	plain := text(1, 1<<20)
	// More than a pipe holds: when this returns, pack has read from it.
	if _, err := in.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := c.Wait(); err != nil {
		t.Errorf("pack under nohup ends with %v", err)
	}
	if got := must(t, dir, "cat", "x.lazy"); got != string(plain) {
		t.Error("other bytes")
	}
}
