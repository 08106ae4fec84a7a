package fs_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/test/disktest"
)

// A user is a thread of a user, which does what it is sent.
type user chan func()

func newUser(t *testing.T, id uintptr) user {
	u := make(user)
	t.Cleanup(func() { close(u) })
	go func() {
		runtime.LockOSThread()
		// What package syscall does is for all threads.
		unix.RawSyscall(unix.SYS_SETRESGID, id, id, id)
		unix.RawSyscall(unix.SYS_SETRESUID, id, id, id)
		for do := range u {
			do()
		}
	}()
	return u
}

func (u user) do(act func() error) error {
	done := make(chan error)
	u <- func() { done <- act() }
	return <-done
}

// Twins are a file of a mount and one of the file system below it to which the same is done.
type twins struct {
	t     *testing.T
	r     *rand.Rand
	paths [2]string // on the mount, below it
	users []user
	fds   map[user]*[2]int // open to read and write; -1: not open
	done  []string
}

// Whatever is done to a file of a mount, be it root's or a user's, its content, mode, owner,
// capabilities and mtime are those of a file of ext4 to which the same is done.
func TestTwins(t *testing.T) {
	const nobody = 65534
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LAZYFS_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("LAZYFS_SEED=%d", seed)
	letUsersMount(t)
	for name, ids := range map[string][]uintptr{"root": {0, 4321}, "user": {nobody}} {
		t.Run(name, func(t *testing.T) {
			disk := disktest.New(t)
			back, below, dir := filepath.Join(disk.Dir, "back"), filepath.Join(disk.Dir, "below"), t.TempDir()
			openUp(t, dir)
			openUp(t, disk.Dir)
			for _, path := range []string{back, below, dir} {
				os.Mkdir(path, 0o700) // dir is there.
				if err := errors.Join(os.Chown(path, int(ids[0]), int(ids[0])), os.Chmod(path, 0o777)); err != nil {
					t.Fatal(err)
				}
			}
			spec := mountSpec{Source: back, Dir: dir, Writable: true, AllowOther: len(ids) > 1, SyncAfter: 30 * time.Millisecond}
			d := startCopy(t, spec, &syscall.Credential{Uid: uint32(ids[0]), Gid: uint32(ids[0])})
			for _, name := range []string{"store", "plain"} {
				w := &twins{t: t, r: rand.New(rand.NewPCG(seed, uint64(len(ids)))), fds: make(map[user]*[2]int)}
				w.paths = [2]string{d.path(name), filepath.Join(below, name)}
				for _, id := range ids {
					u := newUser(t, id)
					w.users = append(w.users, u)
					w.fds[u] = &[2]int{-1, -1}
				}
				w.run(name, back)
			}
			d.terminate()
			store, plain := lookAt(filepath.Join(back, "store.lazy")), lookAt(filepath.Join(back, "plain"))
			store.content = contentOf(unpack(t, filepath.Join(back, "store.lazy")))
			for name, got := range map[string]looked{"store": store, "plain": plain} {
				if want := lookAt(filepath.Join(below, name)); got != want {
					t.Errorf("at the end %s: %v, want %v", name, got, want)
				}
			}
		})
	}
}

// run makes the twins, as a store or in the folder back of the mount, and does things to them.
func (w *twins) run(kind, back string) {
	steps := 300
	if os.Getenv("LAZYFS_LONG") != "" {
		steps = 50000
	}
	first := w.paths
	if kind == "plain" {
		first[0] = filepath.Join(back, kind)
	}
	err := w.users[0].do(func() error {
		return errors.Join(os.WriteFile(first[0], text(1, 20_000), 0o666), os.WriteFile(first[1], text(1, 20_000), 0o666))
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for range steps {
		u := w.users[w.r.IntN(len(w.users))]
		what, act := w.act()
		var errs [2]error
		var seen [2]looked
		for i, path := range w.paths {
			errs[i] = u.do(func() error { return act(path, &w.fds[u][i]) })
			w.users[0].do(func() error { seen[i] = lookAt(path); return nil })
		}
		w.done = append(w.done, fmt.Sprintf("%s: %v", what, errs[1]))
		if seen[0] != seen[1] || !errors.Is(errs[0], errs[1]) {
			w.t.Fatalf("%s: %v, %v\nwant %v, %v\nafter\n%s", kind, seen[0], errs[0], seen[1], errs[1],
				strings.Join(w.done[max(0, len(w.done)-20):], "\n"))
		}
	}
	for _, fds := range w.fds {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// act picks something to do to a file, which fd is if it is open.
func (w *twins) act() (what string, act func(path string, fd *int) error) {
	off, n := w.r.Int64N(40_000), 1+w.r.Int64N(8000)
	when := unix.Timespec{Sec: w.r.Int64N(recent), Nsec: 5}
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	switch w.r.IntN(14) {
	case 0, 1:
		return "open", func(path string, fd *int) (err error) {
			if *fd < 0 {
				*fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
			}
			return err
		}
	case 2:
		return "close", func(_ string, fd *int) error {
			err := unix.Close(*fd)
			*fd = -1
			return err
		}
	case 3, 4:
		b := text(uint64(n), int(n))
		return fmt.Sprintf("write %d at %d", n, off), func(_ string, fd *int) error {
			_, err := unix.Pwrite(*fd, b, off)
			return err
		}
	case 5:
		return fmt.Sprintf("truncate to %d", off), func(path string, _ *int) error { return unix.Truncate(path, off) }
	case 6:
		return fmt.Sprintf("ftruncate to %d", off), func(_ string, fd *int) error { return unix.Ftruncate(*fd, off) }
	case 7:
		modes := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
			unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE}
		mode := modes[w.r.IntN(len(modes))]
		return fmt.Sprintf("fallocate %#x, %d at %d", mode, n, off), func(_ string, fd *int) error {
			return unix.Fallocate(*fd, mode, off, n)
		}
	case 8:
		mode := []uint32{0o666, 0o4666, 0o4777, 0o2777, 0o6777}[w.r.IntN(5)]
		return fmt.Sprintf("chmod %o", mode), func(path string, _ *int) error { return unix.Chmod(path, mode) }
	case 9:
		return "setcap", func(path string, _ *int) error { return unix.Setxattr(path, "security.capability", netRaw(), 0) }
	case 10:
		return "take the capabilities", func(path string, _ *int) error { return unix.Removexattr(path, "security.capability") }
	case 11:
		return fmt.Sprintf("write to a mapping at %d", off), func(_ string, fd *int) error { return writeMapped(*fd, off, byte(n)) }
	case 12:
		times := [][]unix.Timespec{{omit, when}, {when, omit}, {when, when}}[w.r.IntN(3)]
		return fmt.Sprintf("set times %v", times), func(path string, _ *int) error { return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, 0) }
	}
	wait := w.r.IntN(4) == 0
	return fmt.Sprintf("fsync, wait %t", wait), func(_ string, fd *int) error {
		if wait {
			time.Sleep(20 * time.Millisecond) // More often than not the store is synced meanwhile.
		}
		return unix.Fsync(*fd)
	}
}

// writeMapped writes b to a mapping of fd, at off or before.
func writeMapped(fd int, off int64, b byte) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size == 0 {
		return err
	}
	mem, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	mem[off%st.Size] = b
	if b%2 == 0 {
		err = unix.Msync(mem, unix.MS_SYNC)
	}
	return errors.Join(err, unix.Munmap(mem))
}

// recent is an mtime, in seconds, after which files differ in theirs.
const recent = 1 << 30

// A looked is what is seen of a file.
type looked struct{ inode, content string }

func lookAt(path string) looked {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st); err != nil {
		return looked{inode: err.Error()}
	}
	mtime := "now"
	if st.Mtime.Sec < recent {
		mtime = fmt.Sprint(st.Mtime.Sec, st.Mtime.Nsec)
	}
	value, capErr := attribute(path, "security.capability")
	names, listErr := listed(path)
	content, readErr := os.ReadFile(path)
	if err := errors.Join(listErr, readErr); err != nil || st.Size != uint64(len(content)) && filepath.Ext(path) == "" {
		return looked{content: fmt.Sprintf("%d bytes, %d read, %v", st.Size, len(content), err)}
	}
	return looked{
		fmt.Sprintf("%o of %d:%d, changed %s, capabilities %x %v, attributes %q", st.Mode, st.Uid, st.Gid, mtime, value, capErr, names),
		contentOf(content),
	}
}

func contentOf(b []byte) string {
	return fmt.Sprintf("%d bytes, checksum %#x", len(b), crc32.ChecksumIEEE(b))
}
