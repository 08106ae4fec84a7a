package uffdmap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { bodies["grouped"] = groupedBody }

// groupedBody joins a group of processes and then reads and writes each page of a
// mapping twice over, which takes more memory than the group may.
func groupedBody(args []string) error {
	if err := os.WriteFile(args[1], []byte("0"), 0); err != nil {
		return err
	}
	limit, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	m, err := Map(args[0], Options{Writable: true, MemoryLimit: limit})
	if err != nil {
		return err
	}
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&m.Bytes()[0])), m.Size()/8)
	for round := range uint64(2) {
		for n := 0; n < len(words); n += pageSize / 8 {
			if want := number(n) + round; words[n] != want {
				return fmt.Errorf("round %d: word %d is %#x, want %#x", round, n, words[n], want)
			}
			words[n]++
		}
		if err := m.Sync(); err != nil {
			return err
		}
	}
	s := m.Stats()
	fmt.Printf("%+v\n", s)
	if s.Takeovers > 0 {
		err = fmt.Errorf("%d pagers were killed", s.Takeovers)
	}
	return errors.Join(err, m.Close())
}

// A memory limit keeps a program, its helpers included, within a group of processes
// that may take little more: nobody is killed for want of memory.
func TestMapInMemoryGroup(t *testing.T) {
	const limit = 16 << 20
	const rest = 32<<20 + 16<<20 // of the helpers, as promised, and of the program itself
	group, files := memoryGroup(t, limit+limit/10+rest)
	path := packNumbers(t, 64<<20)
	t.Log(run(t, command("grouped", path, filepath.Join(group, "cgroup.procs"), strconv.Itoa(limit)), tooLong))
	peak, err := os.ReadFile(filepath.Join(group, files.peak))
	t.Logf("the group took %s (%v)", strings.TrimSpace(string(peak)), err)
}

// groupFiles are what a group's files are called.
type groupFiles struct{ limit, peak string }

// memoryGroup makes a group of processes that may take so many bytes of memory,
// where the machine lets it.
func memoryGroup(t *testing.T, limit int) (path string, files groupFiles) {
	t.Helper()
	if raced() {
		t.Skip("the race detector's memory would count")
	}
	var st unix.Statfs_t
	if must(t, "statfs", unix.Statfs(os.TempDir(), &st)); st.Type == unix.TMPFS_MAGIC {
		t.Skip("temporary files are memory here, and would count")
	}
	for top, files := range map[string]groupFiles{
		"/sys/fs/cgroup":        {"memory.max", "memory.peak"},
		"/sys/fs/cgroup/memory": {"memory.limit_in_bytes", "memory.max_usage_in_bytes"},
	} {
		path, err := os.MkdirTemp(top, "lazyfs-test")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			eventually(t, "an empty group", func() bool { return !errors.Is(unix.Rmdir(path), unix.EBUSY) })
		})
		// Elsewhere the folder is empty, and must not get a file of that name.
		f, err := os.OpenFile(filepath.Join(path, files.limit), os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		_, err = f.WriteString(strconv.Itoa(limit))
		f.Close()
		if err == nil {
			return path, files
		}
	}
	t.Skip("there are no groups of processes with a memory limit")
	return "", groupFiles{}
}

// raced says that the race detector watches.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
