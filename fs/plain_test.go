package fs_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is appended to a plain file through the mount comes behind what others have
// just appended, or left of it, also where somebody had it open all the while.
func TestAppendToPlainAfterOthers(t *testing.T) {
	for _, held := range []bool{false, true} {
		back := t.TempDir()
		path := filepath.Join(back, "f")
		write(t, path, []byte("one\n"))
		d := mountRW(t, back)
		same(t, d.path("f"), []byte("one\n"))
		if held {
			f, err := os.Open(d.path("f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		appendTo(t, path, "two\n")
		appendTo(t, d.path("f"), "three\n")
		same(t, path, []byte("one\ntwo\nthree\n"))
		appendTo(t, d.path("f"), "four\n")
		write(t, path, []byte("five\n"))
		appendTo(t, d.path("f"), "six\n")
		same(t, path, []byte("five\nsix\n"))
		same(t, d.path("f"), []byte("five\nsix\n"))
	}
}

// A user who may write a file and not read it does so.
func TestWriteUnreadablePlain(t *testing.T) {
	const nobody = 65534
	back, dir := foldersOf(t, nobody)
	write(t, filepath.Join(back, "drop"), []byte("one\n"))
	if err := os.Chmod(filepath.Join(back, "drop"), 0o222); err != nil {
		t.Fatal(err)
	}
	d := startCopy(t, mountSpec{Source: back, Dir: dir, Writable: true}, &syscall.Credential{Uid: nobody, Gid: nobody})
	as(t, nobody, nobody, dir, "echo two >>drop; echo three >>drop")
	d.terminate()
	same(t, filepath.Join(back, "drop"), []byte("one\ntwo\nthree\n"))
}

// A plain file of which the kernel has handed over nothing does not look like one hole:
// tar(1) would archive it as that.
func TestWrittenPlainHasBlocks(t *testing.T) {
	back := t.TempDir()
	write(t, filepath.Join(back, "f"), nil)
	d := mountRW(t, back)
	f, err := os.OpenFile(d.path("f"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(text(1, 10_000)); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != 10_000 || st.Blocks == 0 {
		t.Errorf("the file has %d bytes in %d blocks, %v; want 10000 and some", st.Size, st.Blocks, err)
	}
}

// A plain file that was written through the mount is found by a descriptor from before,
// and watched where it was.
func TestWrittenPlainStays(t *testing.T) {
	back := t.TempDir()
	write(t, filepath.Join(back, "f"), []byte("one\n"))
	d := mountRW(t, back)
	fd, err := unix.Open(d.path("f"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	found := func(change, want string) {
		t.Helper()
		until(t, "nobody has the file open", func() bool { return d.counters().Files == 0 })
		if _, err := os.ReadDir(d.path("")); err != nil { // It looks up all names.
			t.Fatal(err)
		}
		got, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || string(got) != want {
			t.Errorf("after %s the descriptor finds %q, %v; want %q", change, got, err, want)
		}
	}
	appendTo(t, d.path("f"), "two\n")
	found("an append", "one\ntwo\n")
	if err := os.Truncate(d.path("f"), 5); err != nil {
		t.Fatal(err)
	}
	found("a cut", "one\nt")
	if err := os.Chtimes(d.path("f"), time.Time{}, time.Unix(1_000_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	found("a change of the time", "one\nt")
}

// What a user writes to a plain file stays when somebody opens it to which others have
// just appended, though the kernel has not handed it over.
func TestWriteBesideAppend(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "f")
	write(t, path, text(1, 100))
	d := mountRW(t, back)
	f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var ended atomic.Bool
	var group sync.WaitGroup
	group.Go(func() {
		for i := 0; !ended.Load(); i++ {
			want := fmt.Sprintf("%08d", i)
			if _, err := f.WriteAt([]byte(want), 0); err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				got := make([]byte, len(want))
				if _, err := f.ReadAt(got, 0); err != nil || string(got) != want {
					t.Errorf("%s is there, %v, after %s was written", got, err, want)
					return
				}
			}
		}
	})
	for range 500 {
		appendTo(t, path, "x")
		other, err := os.Open(d.path("f"))
		if err != nil {
			t.Fatal(err)
		}
		other.Close()
	}
	ended.Store(true)
	group.Wait()
}

// What a user has appended to a plain file stays when somebody opens it to which others have
// appended meanwhile, be it less or more, though the kernel has not handed it over. Both see
// what either writes from then on.
func TestAppendBesideAppend(t *testing.T) {
	for _, theirs := range [][]byte{text(3, 500), text(3, 2000), text(3, 20_000)} {
		back := t.TempDir()
		path := filepath.Join(back, "f")
		write(t, path, text(1, 5000))
		d := mountRW(t, back)
		f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ours := text(2, 1000)
		if _, err := f.WriteAt(ours, 5000); err != nil {
			t.Fatal(err)
		}
		appendTo(t, path, string(theirs))
		want := append(text(1, 5000), ours...)
		want = append(want, theirs[min(len(ours), len(theirs)):]...)
		other, err := os.Open(d.path("f"))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		check := func(r io.ReaderAt) {
			t.Helper()
			got := make([]byte, len(want))
			if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
				t.Errorf("beside %d bytes: what is read differs at %#x, %v", len(theirs), firstDiff(got, want), err)
			}
		}
		check(f)
		check(other)
		if _, err := f.WriteAt(ours, 2000); err != nil {
			t.Fatal(err)
		}
		copy(want[2000:], ours)
		check(other)
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
		same(t, path, want)
	}
}
