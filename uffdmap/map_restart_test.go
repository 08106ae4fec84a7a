package uffdmap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// When both helpers are killed while no page is waited for, the program starts
// new ones, and its writes are still there.
func TestMapBothKilled(t *testing.T) {
	data := content(4<<20, 22)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	for round := range 5 {
		at := round * 200_000
		data[at]++
		m.Bytes()[at] = data[at]
		old, err := living(rolePager)
		must(t, "find the pager", err)
		standby, err := living(roleStandby)
		must(t, "find the standby", err)
		must(t, "kill", errors.Join(unix.Kill(standby, unix.SIGKILL), unix.Kill(old, unix.SIGKILL)))
		eventually(t, "new helpers", func() bool {
			now := helper(os.Getpid(), rolePager)
			return now != 0 && now != old && helper(os.Getpid(), roleStandby) != 0
		})
		must(t, "protect, by a new pager", m.Protect()) // It serves the mapping: now pages may be waited for.
		if got, want := m.Stats().Takeovers, int64(round+1); got != want {
			t.Errorf("%d pagers were replaced, want %d", got, want)
		}
	}
	if !bytes.Equal(m.Bytes(), data) {
		t.Error("memory differs from what was written")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(unpack(t, path), data) {
		t.Error("store differs from what was written")
	}
}

// killBoth kills both helpers of this process at once.
func killBoth() error {
	pager, err := living(rolePager)
	if err != nil {
		return err
	}
	standby, err := living(roleStandby)
	if err != nil {
		return err
	}
	// A pager that stands starts no other standby.
	return errors.Join(
		unix.Kill(pager, unix.SIGSTOP), unix.Waitid(unix.P_PID, pager, nil, unix.WSTOPPED, nil),
		unix.Kill(standby, unix.SIGKILL), unix.Kill(pager, unix.SIGKILL),
		await("its end", func() bool { return ended(pager) }),
	)
}

func init() { bodies["restarted"] = restartedBody }

// restartedBody maps a store, has it changed, and touches pages of it when both helpers
// were killed.
func restartedBody(args []string) error {
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	first := m.Bytes()[0]
	w, err := store.Open(args[0], store.Options{Writable: true})
	if err != nil {
		return err
	}
	_, err = w.WriteAt([]byte("changed"), 600_000)
	if err := errors.Join(err, w.Close(), killBoth()); err != nil {
		return err
	}
	err = m.Prefetch(Range{600_000, 1})
	if err == nil || errors.Is(err, os.ErrClosed) { // Nobody would answer a touch.
		return fmt.Errorf("prefetch of an absent page: %v, want why there is none", err)
	}
	if v, fault := peek(m.Bytes(), 600_000); fault == 0 {
		return fmt.Errorf("byte is %#x, of another generation; want a fault", v)
	}
	if m.Bytes()[0] != first {
		return errors.New("a resident byte has changed")
	}
	return m.Close()
}

// New helpers that can't read what was mapped make a touch of an absent page a SIGBUS,
// as a successor does.
func TestMapRestartGenerationIsGone(t *testing.T) {
	run(t, command("restarted", pack(t, content(1<<20, 27), store.CreateOptions{})), tooLong)
}

// stillbornEnv names a folder: a helper that begins takes a file out of it and ends,
// as long as there are any.
const stillbornEnv = "LAZYFS_TEST_STILLBORN"

func endEarly(folder string) {
	files, _ := os.ReadDir(folder)
	for _, f := range files {
		if os.Remove(filepath.Join(folder, f.Name())) == nil {
			os.Exit(3)
		}
	}
}

// When the helpers that replace killed ones die at once, too, others replace them, but
// not for ever.
func TestMapStillborn(t *testing.T) {
	for _, deaths := range []int{maxStarts - 1, maxStarts} {
		folder := t.TempDir()
		t.Setenv(stillbornEnv, folder)
		data := content(1<<20, 25)
		m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{})
		for n := range deaths {
			must(t, "write", os.WriteFile(filepath.Join(folder, strconv.Itoa(n)), nil, 0o600))
		}
		must(t, "kill", killBoth())
		err := m.Prefetch(Range{0, m.Size()})
		if lives := deaths < maxStarts; (err == nil) != lives {
			t.Errorf("prefetch after %d deaths: %v", deaths, err)
		} else if lives {
			same(t, "mapping", m.Bytes(), data)
		}
		m.Close() // says the same
	}
}

func init() { bodies["no descriptors"] = noDescriptorsBody }

// noDescriptorsBody writes to a mapping, has both helpers killed, and can open nothing
// until it has failed to start others.
func noDescriptorsBody(args []string) error {
	m, err := Map(args[0], Options{Writable: true})
	if err != nil {
		return err
	}
	m.Bytes()[0]++
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	m.client.mu.Lock() // Others are not started yet.
	err = errors.Join(killBoth(), unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max}))
	m.client.mu.Unlock()
	if err != nil {
		return err
	}
	err = await("a failed start", func() bool {
		m.client.mu.Lock()
		defer m.client.mu.Unlock()
		return m.client.starts < maxStarts
	})
	if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)); err != nil {
		return err
	}
	return m.Close()
}

// Helpers that can't be started for a moment are started later, and what was written is
// still there.
func TestMapRestartLater(t *testing.T) {
	data := content(1<<20, 29)
	path := pack(t, data, store.CreateOptions{})
	run(t, command("no descriptors", path), tooLong)
	data[0]++
	same(t, "store", unpack(t, path), data)
}

// A mapping whose helpers are gone for good says so in one line when it is closed, and
// leaves alone what the program has opened since.
func TestMapCloseAfterFailure(t *testing.T) {
	folder := t.TempDir()
	t.Setenv(stillbornEnv, folder)
	m := mustMap(t, pack(t, content(1<<20, 28), store.CreateOptions{}), Options{Writable: true})
	for n := range maxStarts {
		must(t, "write", os.WriteFile(filepath.Join(folder, strconv.Itoa(n)), nil, 0o600))
	}
	must(t, "kill", killBoth())
	if err := m.Prefetch(Range{0, m.Size()}); err == nil {
		t.Fatal("helpers live")
	}
	var pairs [10][2]*conn // They get the lowest numbers that are free.
	for i := range pairs {
		pairs[i][0], pairs[i][1] = connected(t)
	}
	if err := m.Close(); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("close: %v, want one line", err)
	}
	for _, p := range pairs {
		must(t, "send", p[0].send(message{}))
		must(t, "send back", p[1].send(message{}))
	}
}

// What is mapped when the helpers of other mappings are gone for good gets its own.
func TestMapAfterFailure(t *testing.T) {
	folder := t.TempDir()
	t.Setenv(stillbornEnv, folder)
	data := content(1<<20, 29)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{})
	for n := range maxStarts {
		must(t, "write", os.WriteFile(filepath.Join(folder, strconv.Itoa(n)), nil, 0o600))
	}
	must(t, "kill", killBoth())
	if err := m.Prefetch(Range{0, m.Size()}); err == nil {
		t.Fatal("helpers live")
	}
	other := mustMap(t, path, Options{})
	m.Close() // says the same
	third := mustMap(t, path, Options{})
	if third.client != other.client {
		t.Error("mappings that are served have pagers of their own")
	}
	must(t, "close", third.Close())
	must(t, "prefetch", other.Prefetch(Range{0, other.Size()}))
	same(t, "mapping", other.Bytes(), data)
	must(t, "close", other.Close())
}

// Replaced helpers are reaped: none is left as a zombie.
func TestMapReaps(t *testing.T) {
	m := mustMap(t, pack(t, content(1<<20, 24), store.CreateOptions{}), Options{})
	for range 10 {
		old, err := living(rolePager)
		must(t, "find the pager", err)
		must(t, "kill", unix.Kill(old, unix.SIGKILL))
		eventually(t, "a new pair", func() bool {
			now := helper(os.Getpid(), rolePager)
			return now != 0 && now != old && helper(os.Getpid(), roleStandby) != 0
		})
		eventually(t, "no dead helper", func() bool { return len(helpers(os.Getpid())) == 2 })
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if h := helpers(os.Getpid()); len(h) > 0 {
		t.Errorf("helpers %v are left", h)
	}
}
