package uffdmap

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"lazyfs/store"
)

// slowEnv names a folder: a standby that succeeds its pager does not come to the end of
// opening a store in it.
const slowEnv = "LAZYFS_TEST_SLOW"

func slowSource(s store.Source, folder string) store.Source {
	if named, ok := s.(*store.Store); ok && filepath.Dir(named.Path()) == folder {
		select {}
	}
	return s
}

func init() { bodies["slow"] = slowBody }

// slowBody has a pager killed that serves many stores of which only one can be opened
// again, and touches pages of that one.
func slowBody(args []string) error {
	for n := range 9 {
		if _, err := Map(filepath.Join(os.Getenv(slowEnv), strconv.Itoa(n)), Options{}); err != nil {
			return err
		}
	}
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	data := content(int(m.Size()), 75)
	if err := killPager(); err != nil {
		return err
	}
	for at := 0; at < len(data); at += pageSize {
		if m.Bytes()[at] != data[at] {
			return fmt.Errorf("byte %#x is wrong", at)
		}
	}
	fmt.Println("done")
	select {}
}

// Stores that do not answer when a pager is succeeded keep nobody from the pages of
// another, and the successor ends with its program all the same.
func TestInheritBesideSlow(t *testing.T) {
	folder := t.TempDir()
	for n := range 9 {
		must(t, "pack", packTo(filepath.Join(folder, strconv.Itoa(n)), content(100_000, uint64(n)), store.CreateOptions{}))
	}
	c := command("slow", pack(t, content(1<<20, 75), store.CreateOptions{}))
	c.Env = append(c.Env, slowEnv+"="+folder)
	waitFor(t, c, "done\n")
	pager := helper(c.Process.Pid, rolePager)
	c.Process.Kill()
	c.Wait()
	eventually(t, "the pager's end", func() bool { return ended(pager) })
}

// A pager serves what it serves, also when it is asked for that again and has no room for
// the descriptors that come along.
func TestAttachAgain(t *testing.T) {
	p := newPager(nil, -1)
	p.served[7] = &served{spec: spec{ID: 7}}
	must(t, "attach", p.attach(message{ID: 7, Spec: &spec{ID: 7}}))
}
