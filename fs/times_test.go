package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/test/disktest"
)

// The times that are seen while a file is written to stay when it is closed, and when
// the file system is mounted anew.
func TestWrittenTimesStay(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	write(t, d.path("f"), text(1, 100_000))
	time.Sleep(20 * time.Millisecond) // The end of the writes is not that of the clock's tick.
	appendTo(t, d.path("f"), "more")
	seen := mtimeOf(t, d.path("f"))
	d.umount()
	d = mountRW(t, back)
	if got := mtimeOf(t, d.path("f")); !got.Equal(seen) {
		t.Errorf("after mounting anew the file was changed at %v, before at %v", got, seen)
	}
	f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	past := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(d.path("f"), time.Time{}, past); err != nil {
		t.Fatal(err)
	}
	f.Close()
	d.umount()
	d = mountRW(t, back)
	if got := mtimeOf(t, d.path("f")); !got.Equal(past) {
		t.Errorf("the file was changed at %v, and a user said %v", got, past)
	}
}

// They stay also when the daemon is killed, once the file has been released.
func TestWrittenTimesStayAfterKill(t *testing.T) {
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: time.Hour})
	f, err := os.Create(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(text(1, 100_000)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // The end of the write is not that of the clock's tick.
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	seen := mtimeOf(t, d.path("f"))
	until(t, "the file waits for its sync", func() bool { return d.counters().Waiting == 1 })
	d.kill()
	d = mountRW(t, back)
	if got := mtimeOf(t, d.path("f")); !got.Equal(seen) {
		t.Errorf("after mounting anew the file was changed %v later than before", got.Sub(seen))
	}
}

// The times of a file that are seen stay also when the kernel has handed over in the
// background, where what was written may come after the time of it.
func TestTimesStayAfterBackground(t *testing.T) {
	back := t.TempDir()
	for i := range 4 {
		write(t, filepath.Join(back, fmt.Sprint("plain", i)), nil)
	}
	d := mountRW(t, back)
	seen := make(map[string]time.Time)
	for i := range 4 {
		for _, kind := range []string{"plain", "store"} {
			name := fmt.Sprint(kind, i)
			seen[name] = writeInBackground(t, d.path(name))
		}
	}
	d.umount()
	d = mountRW(t, back)
	for name, want := range seen {
		if got := mtimeOf(t, d.path(name)); !got.Equal(want) {
			t.Errorf("%s: after mounting anew the file was changed %v later than before", name, got.Sub(want))
		}
	}
}

// writeInBackground writes to the file at path and has the kernel hand that over as it
// does after half a minute. It returns when the file was changed, as seen when it is
// closed.
func writeInBackground(t *testing.T, path string) time.Time {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(text(1, 8<<20)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // The end of the write is not that of the clock's tick.
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return mtimeOf(t, path)
}

// mtimeOf is the time at which the file at path was last changed.
func mtimeOf(t *testing.T, path string) time.Time {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.ModTime()
}

// A file that others have changed keeps the time of that when it is renamed through the
// mount, by whose kernel it was changed before.
func TestTimeOfOthersStays(t *testing.T) {
	for _, kind := range []struct {
		suffix         string
		create, change func(t *testing.T, path string, content []byte)
	}{{".lazy", pack, rewrite}, {"", write, write}} {
		back := t.TempDir()
		path, renamed := filepath.Join(back, "f"+kind.suffix), filepath.Join(back, "g"+kind.suffix)
		kind.create(t, path, text(1, 3000))
		past := time.Unix(1_000_000_000, 0)
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
		d := mountRW(t, back)
		f, err := os.Open(d.path("f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		kind.change(t, path, text(2, 3000))
		changed := mtimeOf(t, path)
		if err := os.Rename(d.path("f"), d.path("g")); err != nil {
			t.Fatal(err)
		}
		if got := mtimeOf(t, renamed); !got.Equal(changed) {
			t.Errorf("%s: after a rename the time of the change is %v, want %v", renamed, got, changed)
		}
		f.Close()
		if kind.suffix == "" {
			same(t, d.path("g"), text(2, 3000))
		}
	}
}

// The time that is seen of a plain file is that of the backing file once one of its
// descriptors is closed, and once a mapping is gone that was written to after that, also
// where the kernel has told it before it handed over.
func TestTimeOfPlainIsKept(t *testing.T) {
	const size = 8 << 20
	back := t.TempDir()
	path := filepath.Join(back, "f")
	write(t, path, make([]byte, size))
	d := mountRW(t, back)
	handOver := func() {
		t.Helper()
		time.Sleep(20 * time.Millisecond) // The end of a write is not that of the clock's tick.
		dir, err := os.Open(d.dir)
		if err == nil {
			err = errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	kept := func(after string) {
		t.Helper()
		if got, want := mtimeOf(t, path), mtimeOf(t, d.path("f")); !got.Equal(want) {
			t.Errorf("after %s the backing file was changed %v later", after, got.Sub(want))
		}
	}
	for range 4 {
		f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(text(1, size)); err != nil {
			t.Fatal(err)
		}
		handOver()
		other, err := unix.Dup(int(f.Fd()))
		if err = errors.Join(err, unix.Close(other)); err != nil {
			t.Fatal(err)
		}
		kept("close")
		mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		copy(mem, text(2, size))
		handOver()
		if err := unix.Munmap(mem); err != nil {
			t.Fatal(err)
		}
		until(t, "the file is closed", func() bool { return d.counters().Files == 0 })
		kept("munmap")
	}
}

// Who gives a file that is open for writing but an access time, or with it the time of the
// last change that it has, or gives it back the one that it had before it was written to,
// gets just that.
func TestGivenTimes(t *testing.T) {
	old, past, omit := unix.Timespec{Sec: 1e9, Nsec: 1}, unix.Timespec{Sec: 11e8, Nsec: 2}, unix.Timespec{Nsec: unix.UTIME_OMIT}
	const size = 16 << 10 // Whole pages: nothing is read to write them.
	back := t.TempDir()
	give := func(path string, atime, mtime unix.Timespec) {
		t.Helper()
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{atime, mtime}, 0); err != nil {
			t.Fatal(err)
		}
	}
	backing := map[string]string{"plain": filepath.Join(back, "plain"), "store": filepath.Join(back, "store.lazy")}
	write(t, backing["plain"], text(1, size))
	pack(t, backing["store"], text(1, size))
	for _, path := range backing {
		give(path, old, old)
	}
	d := mountRW(t, back)
	for name, path := range backing {
		f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = f.WriteAt(text(2, size), 0)
		if err := errors.Join(err, f.Sync()); err != nil {
			t.Fatal(err)
		}
		is := func(atime, mtime unix.Timespec) {
			t.Helper()
			for _, path := range []string{path, d.path(name)} {
				var st unix.Stat_t
				if err := unix.Stat(path, &st); err != nil || st.Atim != atime || st.Mtim != mtime {
					t.Errorf("%s: times %v and %v, %v, want %v and %v", path, st.Atim, st.Mtim, err, atime, mtime)
				}
			}
		}
		give(d.path(name), omit, old)
		is(old, old)
		give(d.path(name), past, omit)
		is(past, old)
		give(d.path(name), old, old)
		is(old, old)
		give(d.path(name), past, omit)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d.umount()
	for _, path := range backing {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Atim != past || st.Mtim != old {
			t.Errorf("at the end, %s: times %v and %v, %v, want %v and %v", path, st.Atim, st.Mtim, err, past, old)
		}
	}
}

// Who gives a file the size that it has by truncate(2) leaves its times alone, and the
// times that it is given then are kept by fsync(2).
func TestTruncateToSameSize(t *testing.T) {
	disk := disktest.New(t)
	path := filepath.Join(disk.Dir, "f.lazy")
	pack(t, path, text(1, 50_000))
	old, past := time.Unix(1e9, 1), time.Unix(11e8, 2)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	d := mountRW(t, disk.Dir)
	f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(f.Name(), 50_000); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chtimes(f.Name(), time.Time{}, past), f.Sync()); err != nil {
		t.Fatal(err)
	}
	if got := mtimeOf(t, filepath.Join(disk.Cut(), "f.lazy")); !got.Equal(past) {
		t.Errorf("after fsync and a power cut the file was changed %v, want %v", got, past)
	}
	if err := errors.Join(os.Chtimes(f.Name(), old, old), os.Truncate(f.Name(), 50_000), f.Close()); err != nil {
		t.Fatal(err)
	}
	d.umount()
	if got := mtimeOf(t, path); !got.Equal(old) {
		t.Errorf("after truncate(2) the file was changed %v, want %v", got, old)
	}
}
