package uffdmap

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

func init() { bodies["few descriptors"] = fewDescriptorsBody }

// fewDescriptorsBody maps as many stores for writing as its descriptors allow, writes
// to them, and has their pager killed.
func fewDescriptorsBody(args []string) error {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: 100}); err != nil {
		return err
	}
	var all []*Mapping
	for n := 0; ; n++ {
		path := filepath.Join(args[0], fmt.Sprint(n))
		if err := packTo(path, content(100_000, 73), store.CreateOptions{}); err != nil {
			return err
		}
		m, err := Map(path, Options{Writable: true})
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil {
			return err
		}
		m.Bytes()[0] = byte(n)
		all = append(all, m)
	}
	if len(all) < 10 {
		return fmt.Errorf("%d mappings, want at least 10", len(all))
	}
	if err := killPager(); err != nil {
		return err
	}
	for n, m := range all {
		if err := errors.Join(m.Prefetch(Range{0, m.Size()}), m.Close()); err != nil {
			return fmt.Errorf("mapping %d of %d: %w", n, len(all), err)
		}
	}
	return nil
}

// Whatever a pager can serve with the descriptors that it may have its successor can
// serve, too.
func TestMapFewDescriptors(t *testing.T) {
	run(t, command("few descriptors", t.TempDir()), tooLong)
}
