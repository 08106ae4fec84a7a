package uffdmap

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"lazyfs/store"
)

func init() { bodies["failing"] = failingBody }

// failingBody touches a page of a store that can't be read, of which the pager tells
// on standard error, and prints what came of it.
func failingBody(args []string) error {
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	if b, fault := peek(m.Bytes(), 5); fault == 0 {
		fmt.Printf("touch gives %#x, want a fault\n", b)
	}
	fmt.Printf("%d pagers died, closed: %v\n", m.Stats().Takeovers, m.Close())
	return nil
}

// A pager whose standard error is a pipe that nobody reads any more goes on.
func TestMapBrokenStderr(t *testing.T) {
	failing := filepath.Join(t.TempDir(), "failing")
	must(t, "fail", os.WriteFile(failing, nil, 0o600))
	r, w, err := os.Pipe()
	must(t, "pipe", err)
	defer w.Close()
	must(t, "break", r.Close())
	c := command("failing", pack(t, content(1<<20, 55), store.CreateOptions{}))
	c.Env = append(c.Env, failingEnv+"="+failing, "GOMAXPROCS=4")
	c.Stderr = w
	waitFor(t, c, "0 pagers died, closed: <nil>\n")
	must(t, "end", c.Wait())
}
