package uffdmap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

func init() { bodies["counters"] = countersBody }

// countersBody counts in words all over a mapping that is twice as large as its
// limit, so that the frames written are those being evicted. A word belongs to one
// goroutine, and only ever grows.
func countersBody(args []string) error {
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	m, err := Map(args[0], Options{Writable: true, MemoryLimit: minFrames << 14})
	if err != nil {
		return err
	}
	const writers, words = 6, 2 * minFrames << 14 / 8
	var counts [words]uint64
	var writes atomic.Int64
	var errs [writers + 1]error
	var all sync.WaitGroup
	end := time.Now().Add(d)
	for w := range writers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(end.UnixNano()), uint64(w)))
			for time.Now().Before(end) {
				n := r.IntN(words/writers)*writers + w
				p := (*uint64)(unsafe.Pointer(&m.Bytes()[8*n]))
				for range 1 + r.IntN(200) { // Some go on while the frame is taken from under them.
					if got := *p; got != counts[n] {
						errs[w] = fmt.Errorf("word %d is %d, want %d", n, got, counts[n])
						return
					}
					counts[n]++
					*p = counts[n]
					writes.Add(1)
				}
			}
		})
	}
	all.Go(func() {
		for time.Now().Before(end) && errs[writers] == nil {
			errs[writers] = m.Sync()
		}
	})
	all.Wait()
	s := m.Stats()
	err = errors.Join(errs[:]...)
	for n, want := range counts {
		if got := binary.NativeEndian.Uint64(m.Bytes()[8*n:]); err == nil && got != want {
			err = fmt.Errorf("word %d is %d at the end, want %d", n, got, want)
		}
	}
	if err == nil && s.Evicted < 100 {
		err = fmt.Errorf("%d frames were evicted, want more", s.Evicted)
	}
	fmt.Printf("%d writes, %+v\n", writes.Load(), s)
	return errors.Join(err, m.Close())
}

// Writers that storm the very frames being evicted, beside Sync, lose no write.
func TestMapEvictionStorm(t *testing.T) {
	path := pack(t, make([]byte, 2*minFrames<<14), store.CreateOptions{})
	d := seconds(2*time.Second, 3*time.Minute)
	t.Log(run(t, command("counters", path, d.String()), d+tooLong))
}

func init() { bodies["limited"] = limitedBody }

// number is the 8 bytes that the content of a large store has at n*8 at first.
func number(n int) uint64 {
	if n>>12%8 == 5 {
		return 0
	}
	return uint64(n)*0x9e3779b97f4a7c15>>40 + uint64(n)
}

// limitedBody scans a mapping, writes all over it at random, and copies it as a
// whole. It waits for a line of input at the end of each.
func limitedBody(args []string) error {
	limit, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	m, err := Map(args[0], Options{Writable: true, MemoryLimit: limit})
	if err != nil {
		return err
	}
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&m.Bytes()[0])), m.Size()/8)
	for n, got := range words {
		if want := number(n); got != want {
			return fmt.Errorf("scan: word %d is %#x, want %#x", n, got, want)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	written := map[int]uint64{}
	for range len(words) / 5000 {
		n := r.IntN(len(words))
		written[n] = r.Uint64()
		words[n] = written[n]
	}
	into, err := unix.Mmap(-1, 0, len(m.Bytes()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	copy(into, m.Bytes())
	for n := range words {
		want, ok := written[n]
		if !ok {
			want = number(n)
		}
		if got := binary.NativeEndian.Uint64(into[8*n:]); got != want {
			return fmt.Errorf("copy: word %d is %#x, want %#x", n, got, want)
		}
	}
	fmt.Printf("%+v\n", m.Stats())
	return m.Close()
}

// packNumbers makes a store of size bytes of numbers.
func packNumbers(t *testing.T, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.lazy")
	s, err := store.Create(path, store.CreateOptions{})
	must(t, "create", err)
	b := make([]byte, 1<<20)
	for off := 0; off < size; off += len(b) {
		for i := 0; i < len(b); i += 8 {
			binary.NativeEndian.PutUint64(b[i:], number((off+i)/8))
		}
		_, err := s.WriteAt(b, int64(off))
		must(t, "write", err)
	}
	must(t, "close", s.Close())
	return path
}

// status is a field of /proc/PID/status in bytes, 0 when the process is gone.
func status(pid int, field string) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}

// memfdBytes is the memory of the mapping of program pid, whoever has touched it.
func memfdBytes(pid int) int64 {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		var st unix.Stat_t
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, "/memfd:lazyfs ") && unix.Stat(fd, &st) == nil {
			return st.Blocks * 512
		}
	}
	return 0
}

// A memory limit holds to a tenth and 32 MiB, seen from outside, the helper's own
// memory included, while a large store is scanned, written at random, and copied
// in one go. The race detector's own memory does not count.
func TestMapLimitFromOutside(t *testing.T) {
	size, limit := 64<<20, int64(24<<20)
	switch {
	case storming:
		size, limit = 4<<30, 256<<20
	case testing.Short():
		size, limit = 24<<20, 8<<20
	}
	c := command("limited", packNumbers(t, size), strconv.FormatInt(limit, 10))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	must(t, "start", c.Start())
	dog := watch(c, seconds(0, 10*time.Minute)+tooLong)
	var peak struct{ shared, memfd, helper int64 }
	var done atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		for pid := c.Process.Pid; !done.Load(); <-time.After(20 * time.Millisecond) {
			peak.shared = max(peak.shared, status(pid, "RssShmem"))
			peak.memfd = max(peak.memfd, memfdBytes(pid))
			for h := range helpers(pid) {
				peak.helper = max(peak.helper, status(h, "RssAnon")+status(h, "RssShmem"))
			}
		}
	})
	err := c.Wait()
	done.Store(true)
	all.Wait()
	if hung := dog.stop(); hung != nil || err != nil {
		t.Fatalf("%v %v\n%s", err, hung, out.String())
	}
	t.Logf("limit %d, at most %+v: %s", limit, peak, out.String())
	if raced() {
		peak.helper = 0
	}
	if most := limit + limit/10 + 32<<20; max(peak.shared, peak.memfd)+peak.helper > most {
		t.Errorf("mapping and helper have taken %+v, want at most %d together", peak, most)
	}
	if peak.memfd < limit/2 {
		t.Errorf("mapping has taken %d bytes, want the limit used", peak.memfd)
	}
}

func init() { bodies["stuck eviction"] = stuckEvictionBody }

// stuckEvictionBody waits for one page of a frame whose others are in memory, and
// touches more frames than the limit allows meanwhile.
func stuckEvictionBody(args []string) error {
	debug.SetGCPercent(-1) // It would wait for the page.
	allow := filepath.Join(os.Getenv(stuckEnv), "1")
	m, err := Map(args[0], Options{Private: true, MemoryLimit: minFrames << 14})
	if err != nil {
		return err
	}
	const frame = 1 << 14
	b := m.Bytes()
	first := b[frame+pageSize]
	err = errors.Join(os.Remove(allow), unix.Madvise(m.mem[frame:frame+pageSize], unix.MADV_REMOVE))
	if err != nil {
		return err
	}
	faults := m.Stats().Faults
	done := make(chan byte)
	go func() {
		got := b[frame] // Sending it would touch it only when it is received.
		done <- got
	}()
	if err := await("the page being read", func() bool { return m.Stats().Faults > faults }); err != nil {
		return err
	}
	sum := byte(0)
	for i := range 100 { // Not in sequence, which would bring in odd frames.
		sum += b[2*(i*37%100+10)*frame]
	}
	if err := os.WriteFile(allow, nil, 0o600); err != nil {
		return err
	}
	fmt.Println(first + sum + <-done)
	return m.Close()
}

// Nobody waits for a frame that is in use to be evicted.
func TestMapEvictsBesideStuckStore(t *testing.T) {
	folder := t.TempDir()
	must(t, "allow", os.WriteFile(filepath.Join(folder, "1"), nil, 0o600))
	c := command("stuck eviction", pack(t, content(4<<20, 70), store.CreateOptions{}))
	c.Env = append(c.Env, stuckEnv+"="+folder, "GOMAXPROCS=8", "GODEBUG=asyncpreemptoff=1")
	run(t, c, tooLong)
}

func init() { bodies["full disk"] = fullDiskBody }

// fullDiskBody writes more than a mapping may hold, its store can take, and the disk has
// room to spill, and syncs when there is room.
func fullDiskBody(args []string) error {
	const limit = 1 << 20
	m, err := Map(args[0], Options{Writable: true, MemoryLimit: limit})
	if err != nil {
		return err
	}
	want := make([]byte, m.Size())
	rand.NewChaCha8([32]byte{2}).Read(want)
	copy(m.Bytes(), want)
	for range 3 {
		if !bytes.Equal(m.Bytes(), want) {
			return errors.New("memory differs from what was written")
		}
	}
	if err := m.Sync(); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("sync: %v, want ENOSPC", err)
	}
	if got := m.Stats().Resident; got <= 2*limit {
		return fmt.Errorf("%d bytes are resident, want what the disk could not take", got)
	}
	err = errors.Join(unix.Mount("tmpfs", filepath.Dir(args[0]), "tmpfs", unix.MS_REMOUNT, "size=64m"), m.Sync())
	if got := m.Stats().Resident; got > limit {
		return fmt.Errorf("%d bytes are resident after a sync (%v), want no more than the limit", got, err)
	}
	return errors.Join(err, m.Close())
}

// What a full disk keeps in memory leaves it with the next Sync that succeeds. The
// pager says once that it exceeds the limit.
func TestMapLimitOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	must(t, "mount", unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	want := make([]byte, 8<<20)
	path := filepath.Join(dir, "test.lazy")
	must(t, "pack", packTo(path, want, store.CreateOptions{}))
	c := command("full disk", path)
	c.Env = append(c.Env, "TMPDIR="+dir)
	out := run(t, c, tooLong)
	if n := strings.Count(out, "exceeded"); n != 1 {
		t.Errorf("it is said %d times that the limit is exceeded, want once:\n%.2000s", n, out)
	}
	rand.NewChaCha8([32]byte{2}).Read(want)
	same(t, "store", unpack(t, path), want)
}

// A frame that a Sync has taken and not committed yet is spilled when it is evicted: the
// store has it only if the Sync succeeds.
func TestMapEvictsUncommitted(t *testing.T) {
	const frame = 16 << 10
	data := content(64*frame, 78)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{Writable: true, MemoryLimit: 1})
	data[0]++
	m.Bytes()[0] = data[0]
	shared, err := mapTable(m.table.fd, m.frames(), true)
	must(t, "map the table", err)
	defer shared.close()
	shared.syncing.set(0)
	shared.dirty.clear(0)
	eventually(t, "frame 0 evicted", func() bool {
		for at := frame; at < len(data); at += frame {
			peek(m.Bytes(), at)
		}
		r, _ := m.nextResident(0)
		return r.Off > 0
	})
	same(t, "mapping", m.Bytes(), data)
}

// A touch of a frame that was evicted and can't be read again is a fault, and waits for
// nothing.
func TestMapEvictedUnreadable(t *testing.T) {
	const frame = 16 << 10
	failing := filepath.Join(t.TempDir(), "failing")
	t.Setenv(failingEnv, failing)
	data := content(64*frame, 79)
	m := mustMap(t, pack(t, data, store.CreateOptions{}), Options{Writable: true, MemoryLimit: 1})
	same(t, "mapping", m.Bytes(), data)
	must(t, "fail", os.WriteFile(failing, nil, 0o600))
	faults := 0
	for at := 0; at < len(data); at += frame {
		v, fault := peek(m.Bytes(), at)
		if fault != 0 {
			faults++
		} else if v != data[at] {
			t.Errorf("byte %#x is %#x, want %#x", at, v, data[at])
		}
	}
	if faults == 0 {
		t.Error("no frame was evicted")
	}
}
