package uffdmap

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// mustMap maps the store at path and closes the mapping when the test ends, if
// the test has not.
func mustMap(t testing.TB, path string, o Options) *Mapping {
	t.Helper()
	m, err := Map(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return m
}

// A mapping holds exactly the bytes of its store, whatever the size, the frame
// size and the codec, and Resident tells what was touched.
func TestMapBytes(t *testing.T) {
	for _, frame := range []int{4 << 10, 16 << 10, 1 << 20} {
		for _, size := range []int{0, 1, 4095, 4096, 4097, 16<<10 - 1, 16<<10 + 1, 3<<20 + 123} {
			id := []codec.ID{codec.LZ4, codec.Zstd}[size&1]
			data := content(size, 1)
			path := pack(t, data, store.CreateOptions{FrameSize: frame, Codec: id})
			for _, o := range []Options{{}, {Writable: true}, {Private: true}} {
				m, err := Map(path, o)
				if err != nil {
					t.Fatalf("%d bytes in frames of %d, %+v: %v", size, frame, o, err)
				}
				if got := slices.Collect(m.Resident()); len(got) > 0 {
					t.Errorf("%d bytes in frames of %d, %+v: %v is resident before any touch", size, frame, o, got)
				}
				if !bytes.Equal(m.Bytes(), data) {
					t.Errorf("%d bytes in frames of %d, %+v: mapping differs from what was packed", size, frame, o)
				}
				if got, want := slices.Collect(m.Resident()), wholeRange(size); !slices.Equal(got, want) {
					t.Errorf("%d bytes in frames of %d, %+v: resident is %v, want %v", size, frame, o, got, want)
				}
				if err := m.Close(); err != nil {
					t.Errorf("%d bytes in frames of %d, %+v: %v", size, frame, o, err)
				}
			}
		}
	}
}

func wholeRange(size int) []Range {
	if size == 0 {
		return nil
	}
	return []Range{{0, int64(size)}}
}

// A random touch brings in its own frame and no other.
func TestMapBringsInOneFrame(t *testing.T) {
	data := content(4<<20, 2)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{})
	var want []Range
	for _, n := range []int64{200, 7, 90, 9} {
		at := n*16<<10 + 5000
		if m.Bytes()[at] != data[at] {
			t.Fatalf("byte %#x is wrong", at)
		}
		want = append(want, Range{n * 16 << 10, 16 << 10})
	}
	slices.SortFunc(want, func(a, b Range) int { return int(a.Off - b.Off) })
	if got := slices.Collect(m.Resident()); !slices.Equal(got, want) {
		t.Errorf("resident is %v, want %v", got, want)
	}
}

// What is written is in the store after Sync, and what is written after it after
// Close; Dirty names the frames in between.
func TestMapWrites(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	data := content(3<<20+77, 3)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	for round := range 5 {
		dirty := map[int64]bool{}
		for range 50 {
			at := r.IntN(len(data))
			data[at]++
			m.Bytes()[at] = data[at]
			dirty[int64(at)>>14] = true
		}
		got := map[int64]bool{}
		for d := range m.Dirty() {
			for n := d.Off >> 14; n<<14 < d.End(); n++ {
				got[n] = true
			}
		}
		if !maps.Equal(got, dirty) {
			t.Fatalf("round %d: dirty frames are %v, want %v", round, got, dirty)
		}
		if round < 4 {
			if err := m.Sync(); err != nil {
				t.Fatal(err)
			}
			for d := range m.Dirty() {
				t.Fatalf("%v is dirty after Sync", d)
			}
			if !bytes.Equal(unpack(t, path), data) {
				t.Fatalf("round %d: store differs from what was written", round)
			}
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(unpack(t, path), data) {
		t.Fatal("store differs from what was written before Close")
	}
}

// A Sync beside writers loses no write: whatever was written before one began is
// in the store when it returns, and the rest after the next.
func TestMapSyncBesideWriters(t *testing.T) {
	data := content(1<<20, 4)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	const writers = 4
	stop := make(chan struct{})
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 9))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				// Each writer has its own bytes of every frame.
				at := r.IntN(len(data)/64)*64 + w
				data[at]++
				m.Bytes()[at] = data[at]
			}
		})
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if err := m.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	all.Wait()
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Bytes(), data) {
		t.Error("memory differs from what was written")
	}
	if !bytes.Equal(unpack(t, path), data) {
		t.Error("store differs from what was written")
	}
}

// A private mapping never changes its store, not even its file.
func TestMapPrivate(t *testing.T) {
	data := content(1<<20, 5)
	path := pack(t, data, store.CreateOptions{})
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := mustMap(t, path, Options{Private: true})
	for i := 0; i < len(data); i += 5000 {
		m.Bytes()[i]++
	}
	for i := range data {
		want := data[i]
		if i%5000 == 0 {
			want++
		}
		if m.Bytes()[i] != want {
			t.Fatalf("byte %#x is %#x, want %#x", i, m.Bytes()[i], want)
		}
	}
	if err := errors.Join(m.Sync(), m.Close()); err != nil {
		t.Error(err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the store's file has changed (%v)", err)
	}
}

// Protect begins a new set: Written holds the frames written since, whether they
// were absent, present or dirty before.
func TestMapProtect(t *testing.T) {
	data := content(1<<20, 6)
	path := pack(t, data, store.CreateOptions{FrameSize: 4096})
	m := mustMap(t, path, Options{Writable: true})
	b := m.Bytes()
	b[0x1000]++
	b[0x5000]++
	_ = b[0x8000]
	if err := m.Protect(); err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(m.Written()); len(got) > 0 {
		t.Errorf("%v is written right after Protect", got)
	}
	b[0x5004]++  // written before
	b[0x8000]++  // present
	b[0x20000]++ // absent
	want := []Range{{0x5000, 0x1000}, {0x8000, 0x1000}, {0x20000, 0x1000}}
	if got := slices.Collect(m.Written()); !slices.Equal(got, want) {
		t.Errorf("written is %v, want %v", got, want)
	}
	want = []Range{{0x1000, 0x1000}, {0x5000, 0x1000}, {0x8000, 0x1000}, {0x20000, 0x1000}}
	if got := slices.Collect(m.Dirty()); !slices.Equal(got, want) {
		t.Errorf("dirty is %v, want %v", got, want)
	}
}

// peek reads a byte, and gives the address of the fault that a SIGBUS tells.
func peek(b []byte, at int) (v byte, fault uintptr) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			fault = r.(interface{ Addr() uintptr }).Addr()
		}
	}()
	return b[at], 0
}

// flipByte flips a byte inside frame n of the store.
func flipByte(t *testing.T, path string, n int64) {
	t.Helper()
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.FrameInfo(n)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	at := info.Off + info.Stored/2
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// A damaged frame is a SIGBUS with the address touched, every time, and an error
// from Prefetch; all other frames are as good as ever, and writes to them reach
// the store.
func TestMapDamagedFrame(t *testing.T) {
	data := content(1<<20, 7)
	path := pack(t, data, store.CreateOptions{})
	flipByte(t, path, 9)
	m := mustMap(t, path, Options{Writable: true})
	b := m.Bytes()
	for range 3 {
		at := 9*16<<10 + 4096 + 3
		_, fault := peek(b, at)
		if want := uintptr(unsafe.Pointer(&b[at])); fault != want {
			t.Errorf("touch of a damaged frame: fault at %#x, want %#x", fault, want)
		}
	}
	if err := m.Prefetch(Range{9 * 16 << 10, 1}); !errors.Is(err, ErrDamaged) {
		t.Errorf("prefetch of a damaged frame: %v, want ErrDamaged", err)
	}
	var d *store.DamageError
	if err := m.Prefetch(Range{0, m.Size()}); !errors.As(err, &d) || d.Path != path {
		t.Errorf("prefetch of a damaged frame: %v, want a DamageError with the path", err)
	}
	for n := range len(data) / (16 << 10) {
		at := n * 16 << 10
		if n == 9 {
			continue
		}
		if v, fault := peek(b, at); fault != 0 || v != data[at] {
			t.Fatalf("frame %d beside the damaged one: %#x, fault at %#x", n, v, fault)
		}
		b[at]++
		data[at]++
	}
	if err := m.Sync(); err != nil {
		t.Errorf("sync beside a damaged frame: %v", err)
	}
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range int64(len(data) / (16 << 10)) {
		got := make([]byte, 16<<10)
		zero, err := s.ReadFrame(n, got)
		if zero {
			clear(got)
		}
		if (err != nil) != (n == 9) || err == nil && !bytes.Equal(got, data[n<<14:(n+1)<<14]) {
			t.Errorf("frame %d after sync: %v", n, err)
		}
	}
}

// A store without room: Sync says ENOSPC, everything stays dirty and readable,
// and once there is room the next Sync stores it.
func TestMapNoSpace(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	data := make([]byte, 8<<20)
	path := dir + "/test.lazy"
	if err := packTo(path, data, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	m := mustMap(t, path, Options{Writable: true})
	rand.NewChaCha8([32]byte{1}).Read(data)
	copy(m.Bytes(), data)
	for range 2 {
		if err := m.Sync(); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("sync of 8 MiB to a disk of 4 MiB: %v, want ENOSPC", err)
		}
		if got := slices.Collect(m.Dirty()); !slices.Equal(got, wholeRange(len(data))) {
			t.Fatalf("dirty is %v after a failed Sync, want everything", got)
		}
		if !bytes.Equal(m.Bytes(), data) {
			t.Fatal("memory has changed after a failed Sync")
		}
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	if err := m.Sync(); err != nil {
		t.Fatalf("sync with room: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(unpack(t, path), data) {
		t.Error("store differs from what was written")
	}
}

// All mappings of a program share one pager and one standby, and nothing of them
// is left after the last Close.
func TestMapLeavesNothing(t *testing.T) {
	data := content(1<<20, 8)
	path := pack(t, data, store.CreateOptions{})
	before := descriptors(t)
	var all []*Mapping
	for range 5 {
		m := mustMap(t, path, Options{})
		if !bytes.Equal(m.Bytes(), data) {
			t.Error("mapping differs from what was packed")
		}
		all = append(all, m)
	}
	eventually(t, "one pager and one standby", func() bool {
		h := helpers(os.Getpid())
		return len(h) == 2 && helper(os.Getpid(), rolePager) != 0 && helper(os.Getpid(), roleStandby) != 0
	})
	for _, m := range all {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := errors.Join(m.Close()); !errors.Is(err, os.ErrClosed) {
			t.Errorf("second Close: %v, want os.ErrClosed", err)
		}
		if err := m.Sync(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Sync after Close: %v, want os.ErrClosed", err)
		}
	}
	if h := helpers(os.Getpid()); len(h) > 0 {
		t.Errorf("helpers %v are left", h)
	}
	if after := descriptors(t); !maps.Equal(before, after) {
		t.Errorf("descriptors are %v, were %v", after, before)
	}
}

// Map says what is wrong, and leaves nothing behind then.
func TestMapErrors(t *testing.T) {
	path := pack(t, content(100, 9), store.CreateOptions{})
	foreign := t.TempDir() + "/foreign.lazy"
	if err := os.WriteFile(foreign, bytes.Repeat([]byte("no store "), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	for _, c := range []struct {
		path string
		o    Options
		want error
	}{
		{path + ".absent", Options{}, os.ErrNotExist},
		{foreign, Options{}, store.ErrNotStore},
		{foreign, Options{Writable: true}, store.ErrNotStore},
		{t.TempDir(), Options{Writable: true, Pages: "tmp%d.gz"}, ErrReadOnly},
		{path, Options{MemoryLimit: -1}, unix.EINVAL},
	} {
		m, err := Map(c.path, c.o)
		if !errors.Is(err, c.want) {
			t.Errorf("map %s, %+v: %v, want %v", c.path, c.o, err, c.want)
		}
		if m != nil {
			m.Close()
		}
	}
	if after := descriptors(t); !maps.Equal(before, after) {
		t.Errorf("descriptors are %v, were %v", after, before)
	}
	if h := helpers(os.Getpid()); len(h) > 0 {
		t.Errorf("helpers %v are left", h)
	}
}

// A kernel that lacks a feature gives ErrUnsupported and the feature's name. A
// read-only mapping does not need what only writing needs.
func TestMapMaskedFeatures(t *testing.T) {
	data := content(100_000, 10)
	path := pack(t, data, store.CreateOptions{})
	for _, c := range []struct {
		feature string
		o       Options
		want    error
	}{
		{"poison", Options{}, ErrUnsupported},
		{"missing_shmem", Options{}, ErrUnsupported},
		{"wp_hugetlbfs_shmem", Options{Writable: true}, ErrUnsupported},
		{"wp_hugetlbfs_shmem", Options{}, nil},
		{"wp_async", Options{Writable: true}, nil},
		{"dev,syscall,usermode", Options{}, ErrPrivilege},
		{"dev,syscall", Options{Private: true}, nil},
	} {
		t.Setenv(uffd.MaskEnv, c.feature)
		m, err := Map(path, c.o)
		if !errors.Is(err, c.want) {
			t.Errorf("without %s, %+v: %v, want %v", c.feature, c.o, err, c.want)
		}
		if c.want == ErrUnsupported && !bytes.Contains([]byte(err.Error()), []byte(c.feature)) {
			t.Errorf("without %s: %v does not name it", c.feature, err)
		}
		if err != nil {
			continue
		}
		if !bytes.Equal(m.Bytes(), data) {
			t.Errorf("without %s: mapping differs from what was packed", c.feature)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A store that is mapped writable can't be opened for writing by anyone else, and
// the error names the program that holds it, also after its pager was replaced.
func TestMapLocks(t *testing.T) {
	path := pack(t, content(1<<20, 11), store.CreateOptions{})
	m := mustMap(t, path, Options{Writable: true})
	holder := []byte(strconv.Itoa(os.Getpid()))
	check := func(when string) {
		t.Helper()
		s, err := store.Open(path, store.Options{Writable: true})
		if !errors.Is(err, ErrLocked) || !bytes.Contains([]byte(err.Error()), holder) {
			t.Errorf("%s: open for writing: %v, want ErrLocked with pid %s", when, err, holder)
		}
		if err == nil {
			s.Close()
		}
		_, err = Map(path, Options{Writable: true})
		if !errors.Is(err, ErrLocked) || !bytes.Contains([]byte(err.Error()), holder) {
			t.Errorf("%s: map for writing: %v, want ErrLocked with pid %s", when, err, holder)
		}
	}
	check("mapped")
	unix.Kill(helper(os.Getpid(), rolePager), unix.SIGKILL)
	eventually(t, "a new standby", func() bool { return helper(os.Getpid(), roleStandby) != 0 })
	check("pager replaced")
	r := mustMap(t, path, Options{})
	m.Bytes()[0]++
	want := m.Bytes()[0] - 1
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if r.Bytes()[0] != want {
		t.Errorf("a reader sees %#x, want %#x as when it was mapped", r.Bytes()[0], want)
	}
	s, err := store.Open(path, store.Options{Writable: true})
	if err != nil {
		t.Fatalf("open for writing after Close: %v", err)
	}
	s.Close()
}

func init() { bodies["compare"] = compareBody }

// compareBody maps a store and compares it with a file.
func compareBody(args []string) error {
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	fmt.Println("mapped")
	var b [1]byte
	os.Stdin.Read(b[:])
	if !bytes.Equal(m.Bytes(), data) {
		return errors.New("mapping differs from the file")
	}
	return m.Close()
}

// Several programs map one store read-only at once.
func TestMapManyPrograms(t *testing.T) {
	data := content(4<<20, 12)
	path := pack(t, data, store.CreateOptions{})
	plain := t.TempDir() + "/plain"
	if err := os.WriteFile(plain, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	for range 4 {
		c := command("compare", path, plain)
		c.Stdin = hold
		all.Go(func() {
			if out, err := output(c, 20*time.Second); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	release.Close()
	all.Wait()
}

func init() { bodies["unprivileged"] = unprivilegedBody }

// unprivilegedBody uses a served mapping as an ordinary user.
func unprivilegedBody(args []string) error {
	data := content(2<<20, 13)
	m, err := Map(args[0], Options{Writable: true})
	if err != nil {
		return err
	}
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := null.Write(m.Bytes()[:4096]); err != nil {
		return fmt.Errorf("write to /dev/null: %w", err)
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	_, err = f.Read(m.Bytes()[1<<20 : 1<<20+100])
	if !errors.Is(err, unix.EFAULT) {
		return fmt.Errorf("read(2) into an absent page: %v, want EFAULT", err)
	}
	if !bytes.Equal(m.Bytes(), data) {
		return errors.New("mapping differs from what was packed")
	}
	m.Bytes()[70_000] = 0x42
	if err := unix.Kill(helper(os.Getpid(), rolePager), unix.SIGKILL); err != nil {
		return err
	}
	if err := m.Sync(); err != nil {
		return err
	}
	return m.Close()
}

// An ordinary user, without the right to serve the kernel's own faults, can use
// everything but system calls on absent pages.
func TestMapUnprivileged(t *testing.T) {
	const nobody = 65534
	data := content(2<<20, 13)
	dir, err := os.MkdirTemp("/tmp", "lazyfs-test")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := dir + "/test.lazy"
	err = errors.Join(packTo(path, data, store.CreateOptions{}), os.Chown(path, nobody, nobody), os.Chmod(dir, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	c := command("unprivileged", path)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	run(t, c, 30*time.Second)
	data[70_000] = 0x42
	if !bytes.Equal(unpack(t, path), data) {
		t.Error("store differs from what was written")
	}
}

// Starting a program while a store is mapped disturbs neither.
func TestMapExec(t *testing.T) {
	data := content(8<<20, 14)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{})
	var all sync.WaitGroup
	all.Go(func() {
		for range 20 {
			if err := exec.Command("/bin/true").Run(); err != nil {
				t.Errorf("/bin/true: %v", err)
			}
		}
	})
	if !bytes.Equal(m.Bytes(), data) {
		t.Error("mapping differs from what was packed")
	}
	all.Wait()
}

// Prefetch makes resident what it is told, so that no touch of it faults.
func TestMapPrefetch(t *testing.T) {
	data := content(8<<20, 15)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{})
	var ranges []Range
	for off := int64(0); off < m.Size(); off += 32 << 10 {
		ranges = append(ranges, Range{off + 5, 100})
	}
	if err := m.Prefetch(ranges...); err != nil {
		t.Fatal(err)
	}
	for _, r := range ranges {
		if !bytes.Equal(m.Bytes()[r.Off:r.End()], data[r.Off:r.End()]) {
			t.Fatalf("%v is wrong", r)
		}
	}
	if s := m.Stats(); s.Faults != 0 || s.Resident != 4<<20 {
		t.Errorf("%d faults, %d bytes resident, want 0 and %d", s.Faults, s.Resident, 4<<20)
	}
	if err := m.Prefetch(Range{m.Size() - 1, 2}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("prefetch past the end: %v, want EINVAL", err)
	}
}

// A memory limit holds beside random reads and writes, which lose nothing.
func TestMapMemoryLimit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const limit = 2 << 20
	for _, o := range []Options{{MemoryLimit: limit}, {MemoryLimit: limit, Writable: true}, {MemoryLimit: limit, Private: true}} {
		data := content(16<<20, 16)
		path := pack(t, data, store.CreateOptions{})
		m := mustMap(t, path, o)
		r := rand.New(rand.NewPCG(seed, 1))
		peak := int64(0)
		for i := range 20_000 {
			at := r.IntN(len(data))
			if m.Bytes()[at] != data[at] {
				t.Fatalf("%+v: byte %#x is %#x, want %#x", o, at, m.Bytes()[at], data[at])
			}
			if o.Writable || o.Private {
				data[at]++
				m.Bytes()[at] = data[at]
			}
			if i%100 == 0 {
				peak = max(peak, m.Stats().Resident)
			}
			if o.Writable && i%5000 == 4999 {
				if err := m.Sync(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if peak > limit+maxWindow {
			t.Errorf("%+v: %d bytes were resident, want at most %d", o, peak, limit)
		}
		if !bytes.Equal(m.Bytes(), data) {
			t.Errorf("%+v: memory differs from what was written", o)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if o.Writable && !bytes.Equal(unpack(t, path), data) {
			t.Errorf("%+v: store differs from what was written", o)
		}
	}
}
