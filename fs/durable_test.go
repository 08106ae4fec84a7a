package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// When the daemon is killed, what was fsynced, and what was closed, is there after
// remounting, and every store is sound.
func TestKill(t *testing.T) {
	back := t.TempDir()
	for round := range 5 {
		d := mountRW(t, back)
		acked := make(chan [2]int, 1)
		go keepWriting(d, round, acked)
		var synced, closed int
		var timeout <-chan time.Time
		for running := true; running; {
			select {
			case a := <-acked:
				if synced, closed = a[0], a[1]; timeout == nil {
					timeout = time.After(150 * time.Millisecond)
				}
			case <-timeout:
				d.kill()
				running = false
			}
		}
		for range acked { // Until keepWriting is refused.
		}
		if synced == 0 || closed == 0 {
			t.Fatal("nothing was written before the daemon was killed")
		}
		d = mountRW(t, back)
		log, err := os.ReadFile(d.path(fmt.Sprintf("log%d", round)))
		if err != nil {
			t.Fatal(err)
		}
		for i := range synced {
			if line := fmt.Sprintf("%08d\n", i); len(log) < 9*(i+1) || string(log[9*i:9*i+9]) != line {
				t.Fatalf("line %d of %d synced ones is lost", i, synced)
			}
		}
		for i := range closed {
			same(t, d.path(fmt.Sprintf("%d.%d", round, i)), text(uint64(i), 2000+i*100))
		}
		d.umount()
	}
	checkAll(t, back)
}

// keepWriting appends and fsyncs lines, and writes and closes files, until it is
// refused, and tells how many of both are acknowledged.
func keepWriting(d *daemon, round int, acked chan [2]int) {
	defer close(acked)
	f, err := os.Create(d.path(fmt.Sprintf("log%d", round)))
	if err != nil {
		return
	}
	defer f.Close()
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(f, "%08d\n", i); err != nil {
			return
		}
		if f.Sync() != nil {
			return
		}
		if os.WriteFile(d.path(fmt.Sprintf("%d.%d", round, i)), text(uint64(i), 2000+i*100), 0o644) != nil {
			return
		}
		acked <- [2]int{i + 1, i + 1}
	}
}

// checkAll checks every store of a folder.
func checkAll(t *testing.T, dir string) {
	t.Helper()
	for _, name := range names(t, dir) {
		s, err := store.Open(filepath.Join(dir, name), store.Options{})
		if errors.Is(err, store.ErrNotStore) {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := s.Check(t.Context(), func(d *store.DamageError) { t.Errorf("%s: %v", name, d) }, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}
}

// A rename over a file, or in exchange with it, never leaves less than the old or the
// new content when the daemon is killed right after, without any fsync.
func TestKillAfterRename(t *testing.T) {
	for _, flags := range []uint{0, unix.RENAME_EXCHANGE} {
		for _, kind := range []string{"stores", "plain files"} {
			back := t.TempDir()
			d := mountRW(t, back)
			if kind == "stores" {
				write(t, d.path("config"), text(1, 50_000))
				write(t, d.path("config.new"), nil)
			} else {
				write(t, filepath.Join(back, "config"), text(1, 50_000))
				write(t, filepath.Join(back, "config.new"), nil)
			}
			f, err := os.OpenFile(d.path("config.new"), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.Write(text(2, 60_000)); err != nil {
				t.Fatal(err)
			}
			// The new file is still open: the rename itself has to commit.
			if err := unix.Renameat2(unix.AT_FDCWD, d.path("config.new"), unix.AT_FDCWD, d.path("config"), flags); err != nil {
				t.Fatal(err)
			}
			d.kill()
			if kind == "plain files" {
				same(t, filepath.Join(back, "config"), text(2, 60_000))
			} else if got := unpack(t, filepath.Join(back, "config.lazy")); !bytes.Equal(got, text(2, 60_000)) {
				t.Errorf("flags %d: %d bytes there, not what was renamed", flags, len(got))
			}
		}
	}
}

// close(2) alone keeps what was written, even of one of two descriptors of an open
// file: when it has returned the daemon may be killed.
func TestKillAfterClose(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(text(1, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(other); err != nil {
		t.Fatal(err)
	}
	d.kill()
	if got := unpack(t, filepath.Join(back, "f.lazy")); !bytes.Equal(got, text(1, 100_000)) {
		t.Errorf("%d bytes there, not what was written", len(got))
	}
}

// What is closed gets to the disk by itself, and leaves the file's times as the
// last write has set them. Other writers are let in again then.
func TestSyncByItself(t *testing.T) {
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: time.Second})
	write(t, d.path("f"), text(1, 30_000))
	// Of a file that the kernel has forgotten, the change time is that of the sync.
	known, err := unix.Open(d.path("f"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(known)
	before := times(t, d.path("f"))
	path := filepath.Join(back, "f.lazy")
	if _, err := store.Open(path, store.Options{Writable: true}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("opening a store that waits for its sync: %v, want %v", err, store.ErrLocked)
	}
	until(t, "the store is free", func() bool {
		s, err := store.Open(path, store.Options{Writable: true})
		if err != nil {
			return false
		}
		s.Discard()
		return true
	})
	if after := times(t, d.path("f")); after != before {
		t.Errorf("mtime and ctime after the sync are %v, want %v", after, before)
	}
	if backing := times(t, path); backing[0] != before[0] {
		t.Errorf("mtime on disk is %v, want %v", backing[0], before[0])
	}
}

// A file that is written to all the time is synced all the same.
func TestSyncBesideWriter(t *testing.T) {
	const after = 500 * time.Millisecond
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: after, Fdatasync: unix.EIO})
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	until(t, "the daemon has logged that its sync failed", func() bool {
		if strings.Contains(d.log.String(), "f.lazy: ") {
			return true
		}
		_, err := f.WriteAt([]byte("x"), 0)
		other, e := unix.Dup(int(f.Fd()))
		// The kernel hands over to a close, which commits. That fails after the sync.
		unix.Close(other)
		if err := errors.Join(err, e); err != nil {
			t.Fatal(err)
		}
		return false
	})
}

// A file that is synced and closed lets other writers in, without waiting for the time
// after which what is not synced is.
func TestFreeAfterSync(t *testing.T) {
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: time.Hour})
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(text(1, 30_000)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	until(t, "the store is free", func() bool {
		s, err := store.Open(filepath.Join(back, "f.lazy"), store.Options{Writable: true})
		if err != nil {
			return false
		}
		s.Discard()
		return true
	})
}

// times returns mtime and ctime, past the kernel's cache of attributes.
func times(t *testing.T, path string) [2]unix.StatxTimestamp {
	t.Helper()
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st); err != nil {
		t.Fatal(err)
	}
	return [2]unix.StatxTimestamp{st.Mtime, st.Ctime}
}

// A store that another process is writing to can be read but not written, and the
// log names who holds it.
func TestLockedStore(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "f.lazy")
	pack(t, path, []byte("content"))
	s, err := store.Open(path, store.Options{Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := mountRW(t, back)
	same(t, d.path("f"), []byte("content"))
	if _, err := os.OpenFile(d.path("f"), os.O_WRONLY, 0); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("open for writing: %v, want %v", err, syscall.EBUSY)
	}
	until(t, "the holder is named", func() bool {
		return bytes.Contains([]byte(d.log.String()), fmt.Append(nil, os.Getpid()))
	})
}

// When a store can't be synced fsync says so, and after it each fsync and close again, and
// the end of the mount.
func TestFailureIsToldAgain(t *testing.T) {
	back := t.TempDir()
	pack(t, filepath.Join(back, "f.lazy"), text(1, 50_000))
	d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: time.Hour, Fdatasync: unix.EIO})
	f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(text(2, 50_000), 0); err != nil {
		t.Fatal(err)
	}
	closeOne := func() error {
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return unix.Close(fd)
	}
	for i, act := range []func() error{f.Sync, closeOne, f.Sync, closeOne, f.Close} {
		if err := act(); !errors.Is(err, unix.EIO) {
			t.Errorf("act %d gives %v, want %v", i, err, unix.EIO)
		}
	}
	if err := unix.Unmount(d.dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-d.done; err == nil {
		t.Error("the mount ends as if all were durable")
	}
}

// Who waits for the end of a mount learns of a store that could not be synced when nobody
// had it open any more, and of which nobody was told.
func TestEndTellsBackground(t *testing.T) {
	for _, after := range []time.Duration{50 * time.Millisecond, time.Second, 9 * time.Second} {
		d := start(t, mountSpec{Source: t.TempDir(), Writable: true, SyncAfter: after, Fdatasync: unix.EIO})
		if err := os.WriteFile(d.path("f"), text(1, 50_000), 0o600); err != nil {
			continue // The sync was faster.
		}
		until(t, "the store is closed", func() bool { return d.counters().Files == 0 })
		if err := unix.Unmount(d.dir, 0); err != nil {
			t.Fatal(err)
		}
		if err := <-d.done; err == nil {
			t.Error("the mount ends as if all were durable")
		}
		return
	}
	t.Error("close waits for the disk")
}
