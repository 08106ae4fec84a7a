package fs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// rewrite gives the store at path another content, as another process does.
func rewrite(t *testing.T, path string, content []byte) {
	t.Helper()
	s, err := store.Open(path, store.Options{Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.WriteAt(content, 0)
	if err := errors.Join(err, s.Truncate(int64(len(content))), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// Who has a file open that others have changed, and that is then given the size that it has,
// reads what they have written, and nothing of what was there before.
func TestSameSizeAfterOthers(t *testing.T) {
	back := t.TempDir()
	packed := filepath.Join(back, "f.lazy")
	pack(t, packed, text(1, 50_000))
	d := mountRW(t, back)
	f, err := os.Open(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, 50_000)
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	rewrite(t, packed, text(2, 50_000))
	if err := os.Truncate(d.path("f"), 50_000); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, text(2, 50_000)) {
		t.Errorf("what is read differs at %#x, %v", firstDiff(got, text(2, 50_000)), err)
	}
}

// appendTo appends to the file at path.
func appendTo(t *testing.T, path, more string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(more); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// Many small writes reach the serving process as few large ones.
func TestSmallWritesTogether(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	f, err := os.Create(d.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	want := text(1, 1<<20)
	for rest := want; len(rest) > 0; rest = rest[min(100, len(rest)):] {
		if _, err := f.Write(rest[:min(100, len(rest))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if n := d.counters().Writes; n > 100 {
		t.Errorf("the process was asked to write %d times for 10486 writes", n)
	}
	same(t, d.path("log"), want)
	d.kill()
	if got := unpack(t, filepath.Join(back, "log.lazy")); !bytes.Equal(got, want) {
		t.Errorf("the store differs at %#x", firstDiff(got, want))
	}
}

// A file that others have changed, be it longer, shorter or as long as before, is seen
// as it is by who opens it next, and within a second by who looks at it.
func TestChangedByOthers(t *testing.T) {
	t.Run("store", func(t *testing.T) {
		t.Parallel()
		changedByOthers(t, "f.lazy", pack, rewrite)
	})
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		changedByOthers(t, "f", write, write)
	})
}

func changedByOthers(t *testing.T, backing string, create, change func(t *testing.T, path string, content []byte)) {
	back := t.TempDir()
	path := filepath.Join(back, backing)
	create(t, path, text(1, 10_000))
	d := mountRW(t, back)
	same(t, d.path("f"), text(1, 10_000))
	// A close is told to the mount later, and until then it goes on to show what it has open.
	changeClosed := func(content []byte) {
		until(t, "the file is closed", func() bool { return d.counters().Files == 0 })
		change(t, path, content)
	}
	for i, size := range []int{50_000, 3000, 0, 8192} {
		want := text(uint64(2+i), size)
		changeClosed(want)
		until(t, "stat shows the size", func() bool {
			fi, err := os.Stat(d.path("f"))
			return err == nil && fi.Size() == int64(size)
		})
		same(t, d.path("f"), want)
		want = text(uint64(20+i), size/2+1)
		changeClosed(want)
		if backing == "f.lazy" {
			same(t, d.path("f"), want)
		}
		until(t, "the content is seen", func() bool {
			got, err := os.ReadFile(d.path("f"))
			return err == nil && bytes.Equal(got, want)
		})
	}
	d.umount()
}

// Who has a file open cuts it also after others have, and somebody else has opened it since.
func TestCutAfterOthers(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "plain")
	write(t, path, text(1, 10_000))
	d := mountRW(t, back)
	f, err := os.OpenFile(d.path("plain"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write(t, path, text(2, 5000))
	same(t, d.path("plain"), text(2, 5000))
	if err := f.Truncate(3000); err != nil {
		t.Error(err)
	}
	same(t, path, text(2, 3000))
}

// What is appended to a store through the mount comes behind what others have just
// appended, also where somebody had it open all the while.
func TestAppendAfterOthers(t *testing.T) {
	for _, held := range []bool{false, true} {
		back := t.TempDir()
		path := filepath.Join(back, "f.lazy")
		pack(t, path, []byte("one\n"))
		d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: time.Millisecond})
		same(t, d.path("f"), []byte("one\n"))
		if held {
			f, err := os.Open(d.path("f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		rewrite(t, path, []byte("one\ntwo\n"))
		appendTo(t, d.path("f"), "three\n")
		same(t, d.path("f"), []byte("one\ntwo\nthree\n"))
		if !held {
			until(t, "the store is closed", func() bool { return unlocked(path) })
			rewrite(t, path, []byte("four\n"))
			appendTo(t, d.path("f"), "five\n")
			same(t, d.path("f"), []byte("four\nfive\n"))
		}
	}
}

// A file that is made where somebody else has removed one is not taken for that,
// although it may have its inode's number.
func TestNumberUsedAgain(t *testing.T) {
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, SyncAfter: time.Millisecond})
	for i := range 20 {
		write(t, d.path("old"), text(1, 30_000))
		until(t, "the store is closed", func() bool { return unlocked(filepath.Join(back, "old.lazy")) })
		if err := os.Remove(filepath.Join(back, "old.lazy")); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(d.path("new"))
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := f.Stat(); err != nil || fi.Size() != 0 {
			t.Fatalf("round %d: a new file has %d bytes, %v", i, fi.Size(), err)
		}
		f.Close()
		if err := os.Remove(d.path("new")); err != nil {
			t.Fatal(err)
		}
	}
}

// What could not be written, of which close or fsync told, is not shown any more when
// nobody has the file open.
func TestUnwrittenIsForgotten(t *testing.T) {
	back := t.TempDir()
	if err := unix.Mount("tmpfs", back, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(back, unix.MNT_DETACH) })
	d := mountRW(t, back)
	f, err := os.Create(d.path("big"))
	if err != nil {
		t.Fatal(err)
	}
	want := noise(8 << 20)
	_, err = f.Write(want)
	err = errors.Join(err, f.Sync(), f.Close())
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("writing twice the disk: %v, want %v", err, syscall.ENOSPC)
	}
	var got []byte
	until(t, "the file is as the store has it", func() bool {
		fi, err := os.Stat(d.path("big"))
		if err != nil {
			t.Fatal(err)
		}
		got, err = os.ReadFile(d.path("big"))
		return err == nil && int64(len(got)) == fi.Size() && !bytes.Equal(got, want)
	})
	d.umount()
	if stored := unpack(t, filepath.Join(back, "big.lazy")); !bytes.Equal(got, stored) {
		t.Errorf("the mount showed %d bytes, the store has %d", len(got), len(stored))
	}
}

// What was written is data for SEEK_DATA and SEEK_HOLE although the kernel has not
// handed it over, so that who copies a sparse file beside a writer copies it.
func TestSeekWritten(t *testing.T) {
	const mib = 1 << 20
	back := t.TempDir()
	write(t, filepath.Join(back, "plain"), nil)
	d := mountRW(t, back)
	for _, name := range []string{"plain", "store"} {
		f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		reader, err := os.Open(d.path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		seek := func(off int64, whence int, want int64) {
			t.Helper()
			if at, err := unix.Seek(int(reader.Fd()), off, whence); err != nil || at != want {
				t.Errorf("%s: whence %d from %d finds %d, %v; want %d", name, whence, off, at, err, want)
			}
		}
		put := func(off int64, content []byte) {
			t.Helper()
			if _, err := f.WriteAt(content, off); err != nil {
				t.Fatal(err)
			}
		}
		put(0, []byte("12345678"))
		seek(0, unix.SEEK_HOLE, 8)
		put(8, []byte("12345678"))
		seek(15, unix.SEEK_DATA, 15)
		put(8*mib, text(1, mib))
		seek(mib, unix.SEEK_DATA, 8*mib)
		put(4*mib, text(2, mib))
		seek(mib, unix.SEEK_DATA, 4*mib)
		put(9*mib, text(3, mib))
		seek(8*mib, unix.SEEK_HOLE, 10*mib)
		if _, err := unix.Seek(int(reader.Fd()), 10*mib, unix.SEEK_HOLE); err != unix.ENXIO {
			t.Errorf("%s: SEEK_HOLE at the end: %v, want %v", name, err, unix.ENXIO)
		}
		put(10*mib, text(4, mib))
		put(12*mib, text(5, mib))
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		put(11*mib, text(6, mib))
		put(13*mib, text(7, mib))
		seek(10*mib, unix.SEEK_HOLE, 14*mib)
	}
}

// A file that others have cut is seen as it is by all who open it at once.
func TestCutByOthers(t *testing.T) {
	for _, kind := range []struct {
		name           string
		create, change func(t *testing.T, path string, content []byte)
	}{{"f.lazy", pack, rewrite}, {"f", write, write}} {
		back := t.TempDir()
		path := filepath.Join(back, kind.name)
		kind.create(t, path, nil)
		d := mountRW(t, back)
		for i := range 50 {
			kind.change(t, path, text(uint64(i), 9000))
			same(t, d.path("f"), text(uint64(i), 9000))
			until(t, "the file is closed", func() bool { return d.counters().Files == 0 })
			kind.change(t, path, text(uint64(i), 5000))
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() { same(t, d.path("f"), text(uint64(i), 5000)) })
			}
			group.Wait()
			until(t, "the file is closed", func() bool { return d.counters().Files == 0 })
		}
	}
}

// What was written, closed and renamed is read from the kernel's pages.
func TestRenameKeepsPages(t *testing.T) {
	d := mountRW(t, t.TempDir())
	want := text(1, 1<<20)
	write(t, d.path("f.new"), want)
	until(t, "the file is closed", func() bool { return d.counters().Handles == 0 })
	if err := os.Rename(d.path("f.new"), d.path("f")); err != nil {
		t.Fatal(err)
	}
	same(t, d.path("f"), want)
	if n := d.counters().Reads; n > 0 {
		t.Errorf("the process was asked to read %d times", n)
	}
}
