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

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

func init() { bodies["abandoned"] = abandonedBody }

// abandonedBody brings two frames of a mapping into memory, has both helpers killed while
// no others live, and touches what is absent and what is not.
func abandonedBody(args []string) error {
	o := Options{Writable: args[1] == "writable", Private: args[1] == "private"}
	m, err := Map(args[0], o)
	if err != nil {
		return err
	}
	debug.SetGCPercent(-1) // It would wait for the pages.
	b, frame := m.Bytes(), int(m.FrameSize)
	resident := []int{20 * frame, len(b) - frame} // Little is absent before them, and much between.
	for _, at := range resident {
		if err := m.Prefetch(Range{int64(at), 1}); err != nil {
			return err
		}
	}
	// The pager does this to a page that can't be read.
	if _, err := uffd.FromFd(m.fds[fdUffd], m.Features).Poison(uintptr(m.Base)+3*pageSize, pageSize); err != nil {
		return err
	}
	for n := range maxStarts {
		if err := os.WriteFile(filepath.Join(os.Getenv(stillbornEnv), strconv.Itoa(n)), nil, 0o600); err != nil {
			return err
		}
	}
	if err := killBoth(); err != nil {
		return err
	}
	waited := make(chan bool)
	for _, at := range []int{0, 40 * frame} {
		go func() {
			_, fault := peek(b, at)
			waited <- fault != 0
		}()
	}
	for range 2 {
		if !<-waited {
			return errors.New("an absent page came")
		}
	}
	if err := m.Prefetch(Range{0, 1}); err == nil || errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("prefetch: %w, want why there is no pager", err)
	}
	for _, at := range resident {
		for _, at := range []int{at - 1, at - 2*frame} {
			if v, fault := peek(b, at); fault == 0 {
				return fmt.Errorf("byte %d of an absent page is %#x, want a fault", at, v)
			}
		}
		if _, fault := peek(b, at); fault != 0 {
			return fmt.Errorf("byte %d of a resident page is a fault", at)
		}
	}
	var want []Range
	if m.editable {
		b[resident[1]]++
		want = []Range{{0, m.Size()}}
	}
	if got := slices.Collect(m.Dirty()); !slices.Equal(got, want) {
		return fmt.Errorf("dirty is %v, want %v", got, want)
	}
	if m.Close() == nil {
		return errors.New("close says nothing")
	}
	return nil
}

// When no helpers can be started any more who touches an absent page does not wait for
// ever, and what is in memory can be read and written.
func TestMapAbandoned(t *testing.T) {
	for _, kind := range []string{"read-only", "writable", "private"} {
		c := command("abandoned", pack(t, content(8<<20, 75), store.CreateOptions{}), kind)
		c.Env = append(c.Env, stillbornEnv+"="+t.TempDir(), "GOMAXPROCS=8", "GODEBUG=asyncpreemptoff=1")
		run(t, c, tooLong)
	}
}

func init() { bodies["some abandoned"] = someAbandonedBody }

// someAbandonedBody maps stores until a pager needs more descriptors for them than this
// process, leaves itself few more than it has, and has both helpers killed.
func someAbandonedBody(args []string) error {
	var all []*Mapping
	for n := range 30 {
		path := filepath.Join(args[0], strconv.Itoa(n))
		if err := packTo(path, content(100_000, 73), store.CreateOptions{}); err != nil {
			return err
		}
		m, err := Map(path, Options{Writable: true})
		if err != nil {
			return err
		}
		all = append(all, m)
	}
	next, err := unix.Dup(0)
	if err != nil {
		return err
	}
	unix.Close(next)
	limit := unix.Rlimit{Cur: uint64(next) + 10, Max: uint64(next) + 10}
	c := all[0].client
	c.mu.Lock() // Others are not started yet.
	err = errors.Join(killBoth(), unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	c.mu.Unlock()
	if err != nil {
		return err
	}
	abandoned := 0
	for n, m := range all {
		_, fault := peek(m.Bytes(), 0)
		err := m.Sync()
		if (err != nil) != (fault != 0) || errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("mapping %d: fault at %#x, sync: %w", n, fault, err)
		}
		if fault != 0 {
			abandoned++
		}
		if e := m.Close(); (e != nil) != (fault != 0) {
			return fmt.Errorf("mapping %d: fault at %#x, close: %w", n, fault, e)
		}
	}
	if abandoned == 0 || abandoned == len(all) {
		return fmt.Errorf("%d of %d mappings are abandoned, want some", abandoned, len(all))
	}
	return nil
}

// When new helpers can serve some mappings and not others, those who touch the others do
// not wait for ever.
func TestMapSomeAbandoned(t *testing.T) {
	run(t, command("some abandoned", t.TempDir()), tooLong)
}

func init() { bodies["many pieces"] = manyPiecesBody }

// manyPiecesBody abandons a mapping in a process whose memory is in as many pieces as the
// kernel allows.
func manyPiecesBody(args []string) error {
	debug.SetGCPercent(-1)
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	middle := int(m.Size()) / 2
	if err := m.Prefetch(Range{int64(middle), 1}); err != nil {
		return err
	}
	limit, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err != nil {
		return err
	}
	pieces, err := strconv.Atoi(strings.TrimSpace(string(limit)))
	if err != nil {
		return err
	}
	b, err := unix.Mmap(-1, 0, pieces*pageSize, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	for at := 0; err == nil; at += 2 * pageSize {
		err = unix.Mprotect(b[at:at+pageSize], unix.PROT_READ)
	}
	if err != unix.ENOMEM {
		return fmt.Errorf("protect: %w, want ENOMEM", err)
	}
	m.client.mu.Lock()
	m.abandon()
	m.client.mu.Unlock()
	if err := unix.Munmap(b); err != nil {
		return err
	}
	for _, at := range []int{0, middle - pageSize, len(m.Bytes()) - 1} {
		if v, fault := peek(m.Bytes(), at); fault == 0 {
			return fmt.Errorf("byte %d of an absent page is %#x, want a fault", at, v)
		}
	}
	return m.Close()
}

// Nor does who touches an absent page wait where the kernel allows no other protection for
// many of them.
func TestMapAbandonedInManyPieces(t *testing.T) {
	run(t, command("many pieces", pack(t, content(8<<20, 75), store.CreateOptions{})), tooLong)
}
