package fs

import (
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// Who closes or syncs a file while another sync of it is under way returns when that
// has ended.
func TestSyncTogether(t *testing.T) {
	for _, what := range []struct {
		name string
		do   func(*file) error
	}{{"close", (*file).commit}, {"fsync", (*file).sync}} {
		t.Run(what.name, func(t *testing.T) {
			s, err := store.Create(filepath.Join(t.TempDir(), "f.lazy"), store.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Discard()
			f := &file{s: s, writable: true}
			if err := f.change(false, func(s *store.Store) error { _, err := s.WriteAt([]byte("x"), 0); return err }); err != nil {
				t.Fatal(err)
			}
			f.mu.Lock() // Whoever does it gets no further than the store.
			done := make(chan error, 2)
			go func() { done <- f.sync() }()
			for begun := false; !begun; {
				f.times.Lock()
				begun = f.since.IsZero()
				f.times.Unlock()
			}
			go func() { done <- what.do(f) }()
			select {
			case <-done:
				t.Error("one returns while the other has not done it")
				done <- nil
			case <-time.After(100 * time.Millisecond):
			}
			f.mu.Unlock()
			for range 2 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			if !f.committed() || !f.since.IsZero() {
				t.Error("something is left to do")
			}
		})
	}
}

// Whose fsync has to keep a mode, say, returns when that is kept, also where the fsync of
// somebody else has begun to keep it.
func TestSyncInodeTogether(t *testing.T) {
	path, err := unix.Open(t.TempDir(), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(path)
	m, n, f := &mount{}, &node{}, &file{path: path}
	n.setAltered()
	f.times.Lock() // Whoever does it gets no further.
	done := make(chan error, 2)
	go func() { done <- m.syncInode(n, f) }()
	for begun := false; !begun; {
		n.mu.Lock()
		begun = !n.altered
		n.mu.Unlock()
	}
	go func() { done <- m.syncInode(n, f) }()
	select {
	case <-done:
		t.Error("one returns while the other has not done it")
		done <- nil
	case <-time.After(100 * time.Millisecond):
	}
	f.times.Unlock()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Who leaves a file keeps nobody from the table of files while the times of that are in use:
// who has these may wait for somebody who waits for the table.
func TestLeaveHoldsNobodyUp(t *testing.T) {
	m := &mount{}
	m.files.init()
	f := &file{m: m}
	if _, err := m.files.add(f); err != nil {
		t.Fatal(err)
	}
	f.times.Lock()
	defer f.times.Unlock()
	left := make(chan int, 1)
	go func() { left <- m.files.leave(f, f.committed) }()
	select {
	case n := <-left:
		if n != 0 {
			t.Errorf("%d references are left, want none", n)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the times")
	}
}

// What gives space up is tried again once that which was noted is durable, then by whole frames,
// and then again, where the disk is full, or the user's share of it.
func TestShrinkTriesAgain(t *testing.T) {
	for _, full := range []unix.Errno{unix.ENOSPC, unix.EDQUOT} {
		s, err := store.Create(filepath.Join(t.TempDir(), "f.lazy"), store.CreateOptions{FrameSize: 8192})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Discard()
		m := &mount{log: log.New(io.Discard, "", 0)}
		for fail, want := range [][]int64{{1}, {1, 1}, {1, 1, 8192, 1}, {1, 1, 8192, 8192, 1}, {1, 1, 8192, 8192}} {
			f := &file{m: m, s: s, writable: true, path: -1, name: "f.lazy"}
			var tried []int64
			err := f.shrink(func(_ *store.Store, grain int64) error {
				tried = append(tried, grain)
				if len(tried) <= fail {
					return full
				}
				return nil
			})
			if !slices.Equal(tried, want) || (err != nil) != (fail == 4) {
				t.Errorf("%v %d times: tried by multiples of %d, %v, want %d", full, fail, tried, err, want)
			}
		}
	}
}

// However many names a file has in one folder, its fsync syncs that folder once.
func TestSyncManyNames(t *testing.T) {
	m, _ := unmounted(t)
	n := m.lookUp(t, m.root.id, "a")
	for i := range 5 {
		var out fuse.EntryOut
		in := &fuse.LinkIn{InHeader: fuse.InHeader{NodeId: m.root.id}, Oldnodeid: n.id}
		if s := m.Link(nil, in, fmt.Sprint("a", i), &out); !s.Ok() {
			t.Fatal(s)
		}
	}
	all, err := m.nodes.foldersOf(n)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		dir.done()
	}
	if len(all) != 1 {
		t.Errorf("a file with 6 names in a folder has %d folders, want 1", len(all))
	}
}

// A plain file gets the mtime that users see when what the kernel has handed over is older
// than that, and keeps the one of a change that others have made since.
func TestSettlePlain(t *testing.T) {
	fd, err := unix.Open(filepath.Join(t.TempDir(), "f"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	seen, others := unix.Timespec{Sec: 1e9, Nsec: 1}, unix.Timespec{Sec: 11e8, Nsec: 2}
	h := &handle{node: &node{}, file: &file{m: &mount{}, path: fd}, fd: fd}
	h.node.tellMtime(seen)
	for _, change := range []struct {
		others bool
		want   unix.Timespec
	}{{false, seen}, {true, others}} {
		if _, err := unix.Pwrite(fd, []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
		h.file.wrotePlain(fd)
		if change.others {
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), []unix.Timespec{others, others}, 0); err != nil {
				t.Fatal(err)
			}
		}
		h.settlePlain()
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mtim != change.want {
			t.Errorf("changed by others: %t: the mtime is %v, %v, want %v", change.others, st.Mtim, err, change.want)
		}
	}
}

// Of those who use a file at once each opens it at most until one of them has.
func TestPinTogether(t *testing.T) {
	m, back := unmounted(t)
	n := m.lookUp(t, 1, "a")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 2000 {
				f, err := m.pin(n)
				if err != nil {
					t.Error(err)
					return
				}
				m.files.release(f)
			}
		})
	}
	group.Wait()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if path, _ := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); path == filepath.Join(back, "a.lazy") {
			t.Errorf("descriptor %s stays open", fd.Name())
		}
	}
}

// What held a small store is given back once: two stores never share it.
func TestSmallIsFreedOnce(t *testing.T) {
	f := &file{small: new(smallFile)}
	f.freeSmall()
	f.freeSmall()
	if smallFiles.Get() == smallFiles.Get() {
		t.Error("two stores share one buffer")
	}
}
