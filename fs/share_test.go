package fs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// What one program writes, by a system call, through a shared mapping or past the
// kernel's cache, others see at once in all three ways, on one descriptor or
// several, and a private mapping's writes nobody sees.
func TestCoherent(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	const size = 256 << 10
	want := text(1, size)
	write(t, d.path("f"), want)
	f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	direct, err := os.OpenFile(d.path("f"), os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	mapped := func(flags int) []byte {
		t.Helper()
		mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(mem) })
		return mem
	}
	shared, private := mapped(unix.MAP_SHARED), mapped(unix.MAP_PRIVATE)
	aligned, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(aligned)
	check := func(after string) {
		t.Helper()
		if !bytes.Equal(shared, want) {
			t.Errorf("after %s the mapping differs at %#x", after, firstDiff(shared, want))
		}
		got := make([]byte, size)
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("after %s read(2) differs at %#x, %v", after, firstDiff(got, want), err)
		}
		if _, err := direct.ReadAt(aligned, 0); err != nil || !bytes.Equal(aligned, want) {
			t.Errorf("after %s a direct read differs at %#x, %v", after, firstDiff(aligned, want), err)
		}
		out, err := exec.Command("cat", d.path("f")).Output()
		if err != nil || !bytes.Equal(out, want) {
			t.Errorf("after %s another program reads something that differs at %#x, %v", after, firstDiff(out, want), err)
		}
	}
	check("opening")
	copy(private[5000:], "nobody sees this")
	check("a write to the private mapping")

	copy(shared[10_000:], "mapped")
	copy(want[10_000:], "mapped")
	check("a write to the mapping")

	if _, err := f.WriteAt([]byte("write"), 12_286); err != nil {
		t.Fatal(err)
	}
	copy(want[12_286:], "write")
	check("write(2)")

	copy(aligned[:8192], bytes.Repeat([]byte("direct"), 2000))
	if _, err := direct.WriteAt(aligned[:8192], 65536); err != nil {
		t.Fatal(err)
	}
	copy(want[65536:], aligned[:8192])
	check("a direct write")

	run(t, d.dir, "sh", "-c", "printf other | dd of=f bs=1 seek=100000 conv=notrunc 2>/dev/null")
	copy(want[100_000:], "other")
	check("a write of another program")

	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 150_000, 30_000); err != nil {
		t.Fatal(err)
	}
	clear(want[150_000:180_000])
	check("punching a hole")

	copy(shared[200_000:], "synced")
	copy(want[200_000:], "synced")
	if err := unix.Msync(shared, unix.MS_SYNC); err != nil {
		t.Fatal(err)
	}
	d.kill()
	if got := unpack(t, filepath.Join(back, "f.lazy")); !bytes.Equal(got, want) {
		t.Errorf("after msync and SIGKILL the store differs at %#x", firstDiff(got, want))
	}
}

// A file that another program cuts by O_TRUNC and fills again shows that through a
// descriptor that was open before, and not a byte of what was.
func TestTruncatedByOther(t *testing.T) {
	d := mountRW(t, t.TempDir())
	write(t, d.path("f"), text(1, 100_000))
	f, err := os.OpenFile(d.path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func() []byte {
		t.Helper()
		b := make([]byte, 200_000)
		n, _ := f.ReadAt(b, 0) // io.EOF
		return b[:n]
	}
	if !bytes.Equal(read(), text(1, 100_000)) {
		t.Error("the file is not as it was written")
	}
	run(t, d.dir, "sh", "-c", "echo new >f")
	if got := read(); string(got) != "new\n" {
		t.Errorf("%d bytes are read after another program has written 4", len(got))
	}
	run(t, d.dir, "truncate", "-s", "50000", "f")
	if got := read(); !bytes.Equal(got, append([]byte("new\n"), make([]byte, 49_996)...)) {
		t.Errorf("%d bytes are read, or not zeros behind the first 4", len(got))
	}
}

// copy_file_range(2) copies between files and within one, with holes, from and to
// any offset.
func TestCopyFileRange(t *testing.T) {
	d := mountRW(t, t.TempDir())
	from := text(1, 300_000)
	clear(from[100_000:200_000])
	write(t, d.path("from"), from)
	write(t, d.path("to"), text(2, 50_000))
	in, err := os.Open(d.path("from"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(d.path("to"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	want := append(text(2, 50_000), make([]byte, 300_000)...)[:12_345+250_000]
	copy(want[12_345:], from[777:250_777])
	copyRange(t, int(in.Fd()), 777, int(out.Fd()), 12_345, 250_000)
	same(t, d.path("to"), want)
	copyRange(t, int(out.Fd()), 1000, int(out.Fd()), 200_001, 5000)
	copy(want[200_001:], want[1000:6000])
	same(t, d.path("to"), want)
	overlap := int64(3000)
	if n, err := unix.CopyFileRange(int(out.Fd()), &overlap, int(out.Fd()), new(int64), 4000, 0); err != unix.EINVAL {
		t.Errorf("overlapping ranges: %d, %v, want %v", n, err, unix.EINVAL)
	}
}

func copyRange(t *testing.T, in int, from int64, out int, to int64, n int) {
	t.Helper()
	for n > 0 {
		done, err := unix.CopyFileRange(in, &from, out, &to, n, 0)
		if err != nil || done == 0 {
			t.Fatalf("copy_file_range to %#x: %d, %v", to, done, err)
		}
		n -= done
	}
}

// Locks of whole files and of ranges keep out other programs, and other open files,
// until they are given back or their owner ends.
func TestLocks(t *testing.T) {
	d := mountRW(t, t.TempDir())
	write(t, d.path("f"), text(1, 10_000))
	open := func() int {
		t.Helper()
		fd, err := unix.Open(d.path("f"), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	a, b := open(), open()
	if err := unix.Flock(a, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(b, unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("flock of another open file: %v, want %v", err, unix.EWOULDBLOCK)
	}
	if err := exec.Command("flock", "-n", d.path("f"), "true").Run(); err == nil {
		t.Error("another program gets the lock that is held")
	}
	whole := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(b), unix.F_OFD_SETLK, &whole); err != nil {
		t.Errorf("a lock of fcntl(2), of which flock(2) knows nothing: %v", err)
	}
	whole.Type = unix.F_UNLCK
	unix.FcntlFlock(uintptr(b), unix.F_OFD_SETLK, &whole)
	unix.Flock(a, unix.LOCK_UN)
	run(t, d.dir, "flock", "-n", "f", "true")

	lock := func(fd int, kind int16, from, n int64) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: from, Len: n})
	}
	if err := lock(a, unix.F_WRLCK, 100, 100); err != nil {
		t.Fatal(err)
	}
	if err := lock(b, unix.F_RDLCK, 150, 10); err != unix.EAGAIN {
		t.Errorf("a range that is locked: %v, want %v", err, unix.EAGAIN)
	}
	if err := lock(b, unix.F_WRLCK, 200, 100); err != nil {
		t.Errorf("a range beside it: %v", err)
	}
	if err := lock(a, unix.F_UNLCK, 100, 100); err != nil {
		t.Fatal(err)
	}
	if err := lock(b, unix.F_RDLCK, 150, 10); err != nil {
		t.Errorf("a range that is free again: %v", err)
	}
	// SQLite locks by ranges of its own process.
	got := run(t, d.dir, "sh", "-c", `
		sqlite3 -bail db "create table t(x); insert into t values(1)"
		(echo "begin exclusive;"; echo ".shell sqlite3 db 'insert into t values(2)' 2>&1"; echo "commit;") | sqlite3 db
		sqlite3 db "insert into t values(3); select group_concat(x) from t"`)
	if !strings.Contains(got, "locked") || !strings.HasSuffix(got, "\n1,3\n") {
		t.Errorf("two programs on one database: %q", got)
	}
}

// Who copies a file by its holes gets what another process has written to its mapped
// pages, though that is in no store yet.
func TestSeekSeesMappedPages(t *testing.T) {
	d := mountRW(t, t.TempDir())
	f, err := os.OpenFile(d.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
	if err == nil {
		err = f.Truncate(4 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	const page, frame = 4096, 16 << 10
	for _, first := range []int{frame, 50 * frame} {
		clear(mem[first : first+page])
		mem[first] = 1
		at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
		if err != nil || at != frame {
			t.Errorf("data begins at %d, %v, want %d", at, err, frame)
		}
	}
	// Behind each piece of data that is known already, more of it is found.
	mem[2*frame], mem[3*frame], mem[5*frame] = 1, 1, 1
	at, err := unix.Seek(int(f.Fd()), frame, unix.SEEK_HOLE)
	if err != nil || at != 4*frame {
		t.Errorf("the hole begins at %d, %v, want %d", at, err, 4*frame)
	}
	if at, err := unix.Seek(int(f.Fd()), 100*frame, unix.SEEK_DATA); err != unix.ENXIO {
		t.Errorf("behind all data: %d, %v, want %v", at, err, unix.ENXIO)
	}
}

// A file that is no store may be changed behind the mount's back, also while it is open
// for writing: who opens it next sees that.
func TestPlainFileChangedBehind(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "plain")
	write(t, path, []byte("AAAA"))
	d := mountRW(t, back)
	f, err := os.OpenFile(d.path("plain"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 4), 0); err != nil {
		t.Fatal(err)
	}
	write(t, path, []byte("BBBB"))
	f.Close()
	same(t, d.path("plain"), []byte("BBBB"))
}

// Of those who open at once what others have written, each reads all of it.
func TestOpenAtOnceSeesNewest(t *testing.T) {
	const size = 256 << 10
	back := t.TempDir()
	packed := filepath.Join(back, "file.lazy")
	pack(t, packed, make([]byte, size))
	d := mountRO(t, back)
	for g := range byte(100) {
		want := bytes.Repeat([]byte{g}, size)
		rewrite(t, packed, want)
		var group sync.WaitGroup
		begin := make(chan struct{})
		for range 4 {
			group.Go(func() {
				<-begin
				same(t, d.path("file"), want)
			})
		}
		close(begin)
		group.Wait()
		until(t, "the store is closed", func() bool { return d.counters().Files == 0 })
	}
}

// When a store is opened for writing to cut it, who has it open goes on with what others
// have written meanwhile, and not with what the kernel has of it.
func TestCutShowsNewest(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "f.lazy")
	pack(t, path, text(1, 10_000))
	d := mountRW(t, back)
	f, err := os.Open(d.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, want := make([]byte, 10_000), text(2, 10_000)
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	rewrite(t, path, want)
	if err := os.Truncate(d.path("f"), 10_000); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("after a truncate(2) that cuts nothing, %v, what is read differs at %#x", err, firstDiff(got, want))
	}
}
