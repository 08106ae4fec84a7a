package uffdmap

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

func init() { bodies["failing"] = failingBody }

// failingBody touches pages of a store that can't be read, of which the pager tells on
// standard error, and prints what came of it.
func failingBody(args []string) error {
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	for at := 0; at < len(m.Bytes()); at += 16 << 10 {
		if b, fault := peek(m.Bytes(), at); fault == 0 {
			fmt.Printf("touch of %#x gives %#x, want a fault\n", at, b)
		}
	}
	fmt.Printf("%d pagers died, closed: %v\n", m.Stats().Takeovers, m.Close())
	return nil
}

// failsBeside runs failingBody with w for standard error.
func failsBeside(t *testing.T, w *os.File) {
	t.Helper()
	failing := filepath.Join(t.TempDir(), "failing")
	must(t, "fail", os.WriteFile(failing, nil, 0o600))
	c := command("failing", pack(t, content(2*maxLines<<14, 55), store.CreateOptions{}))
	c.Env = append(c.Env, failingEnv+"="+failing, "GOMAXPROCS=4")
	c.Stderr = w
	waitFor(t, c, "0 pagers died, closed: <nil>\n")
	must(t, "end", c.Wait())
}

// A pager whose standard error is a pipe that nobody reads any more goes on.
func TestMapBrokenStderr(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, "pipe", err)
	defer w.Close()
	must(t, "break", r.Close())
	failsBeside(t, w)
}

// So does one whose standard error is full, although nobody reads it.
func TestMapFullStderr(t *testing.T) {
	var p [2]int
	must(t, "pipe", unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	defer closeAll(p[:1])
	w := os.NewFile(uintptr(p[1]), "pipe")
	defer w.Close()
	must(t, "fill", fill(p[1]))
	_, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETFL, 0) // Who writes waits.
	must(t, "fcntl", err)
	failsBeside(t, w)
}

// fill writes to fd, which does not wait, until it takes nothing more.
func fill(fd int) error {
	for _, size := range []int{pageSize, 1} {
		for {
			if _, err := unix.Write(fd, make([]byte, size)); err == unix.EAGAIN {
				break
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}
