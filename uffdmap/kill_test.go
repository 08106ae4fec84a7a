package uffdmap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

func init() { bodies["killed"] = killedBody }

// killedBody reads and writes a store from several goroutines beside the garbage
// collector, while somebody kills its helpers, and leaves what it wrote in a file.
func killedBody(args []string) error {
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	limit, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		return err
	}
	m, err := Map(args[0], Options{Writable: true, MemoryLimit: limit})
	if err != nil {
		return err
	}
	stop := collect()
	err = readAndWrite(m, data, time.Now().Add(d))
	stop()
	if err != nil {
		return err
	}
	if !bytes.Equal(m.Bytes(), data) {
		return errors.New("memory differs from what was written")
	}
	fmt.Printf("%d takeovers, %+v\n", m.Stats().Takeovers, m.Stats())
	if err := os.WriteFile(args[1], data, 0o600); err != nil {
		return err
	}
	return m.Close()
}

// readAndWrite checks and changes bytes of m until end, each goroutine its own
// part of every frame, and calls Sync, Prefetch and Protect in between.
func readAndWrite(m *Mapping, data []byte, end time.Time) error {
	const writers = 4
	const part = 512
	var errs [writers + 1]error
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(end.UnixNano()), uint64(w)))
			for time.Now().Before(end) {
				at := (r.IntN(len(data)/part/writers)*writers + w) * part
				got, want := m.Bytes()[at:at+part], data[at:at+part]
				if !bytes.Equal(got, want) {
					errs[w] = fmt.Errorf("bytes at %#x are wrong", at)
					return
				}
				if r.IntN(3) == 0 {
					want[r.IntN(part)]++
					copy(got, want)
				}
			}
		})
	}
	all.Go(func() {
		r := rand.New(rand.NewPCG(uint64(end.UnixNano()), 99))
		for time.Now().Before(end) && errs[writers] == nil {
			off := r.Int64N(m.Size() - 100_000)
			errs[writers] = errors.Join(m.Sync(), m.Prefetch(Range{off, 100_000}), m.Protect())
		}
	})
	all.Wait()
	return errors.Join(errs[:]...)
}

// killAgain kills the helper of that role in program pid, with SIGKILL, when both
// are there and some time has passed, until end; it returns how often.
func killAgain(pid int, role string, end time.Time) int {
	const longest = 50 * time.Millisecond
	kills, last := 0, 0
	for time.Now().Before(end) {
		victim, other := helper(pid, rolePager), helper(pid, roleStandby)
		if role == roleStandby {
			victim, other = other, victim
		}
		if victim == 0 || other == 0 || victim == last {
			time.Sleep(time.Millisecond) // between two looks at /proc
			continue
		}
		if unix.Kill(victim, unix.SIGKILL) == nil {
			kills++
			last = victim
			<-time.After(rand.N(longest))
		}
	}
	return kills
}

func killStorm(t *testing.T, role string, limit int64, env ...string) {
	t.Helper()
	path, plain := storeAndPlain(t, 16<<20, 21)
	d := seconds(2*time.Second, time.Minute)
	c := command("killed", path, plain, d.String(), strconv.FormatInt(limit, 10))
	c.Env = append(c.Env, env...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	dog := watch(c, d+30*time.Second)
	var kills int
	var all sync.WaitGroup
	all.Go(func() { kills = killAgain(c.Process.Pid, role, time.Now().Add(d)) })
	err := c.Wait()
	all.Wait()
	if hung := dog.stop(); hung != nil {
		t.Fatalf("after %d kills of the %s: %v\n%s", kills, role, hung, out.String())
	}
	if err != nil {
		t.Fatalf("%v after %d kills of the %s\n%s", err, kills, role, out.String())
	}
	t.Logf("%d kills of the %s: %s", kills, role, out.String())
	if kills == 0 {
		t.Error("nothing was killed")
	}
	want, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(unpack(t, path), want) {
		t.Error("store differs from what was written")
	}
}

// A pager that is killed again and again under load beside the garbage collector
// loses nothing: right bytes, unsynced writes included, no hang, and what was
// asked of it is done by its successor.
func TestMapPagerKilled(t *testing.T) {
	t.Run("all resident", func(t *testing.T) { killStorm(t, rolePager, 0) })
	t.Run("evicting", func(t *testing.T) { killStorm(t, rolePager, 4<<20) })
	t.Run("one processor", func(t *testing.T) { killStorm(t, rolePager, 4<<20, "GOMAXPROCS=1") })
	// Signals make a waiting thread fault again, and hide that nobody woke it.
	t.Run("without signals", func(t *testing.T) { killStorm(t, rolePager, 4<<20, "GODEBUG=asyncpreemptoff=1") })
}

// A standby that is killed again and again is replaced, and nobody notices.
func TestMapStandbyKilled(t *testing.T) { killStorm(t, roleStandby, 4<<20) }

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
		old := helper(os.Getpid(), rolePager)
		unix.Kill(helper(os.Getpid(), roleStandby), unix.SIGKILL)
		unix.Kill(old, unix.SIGKILL)
		eventually(t, "new helpers", func() bool {
			now := helper(os.Getpid(), rolePager)
			return now != 0 && now != old && helper(os.Getpid(), roleStandby) != 0
		})
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

func init() { bodies["abandon"] = abandonBody }

// abandonBody writes before and after a Sync and waits to be killed.
func abandonBody(args []string) error {
	m, err := Map(args[0], Options{Writable: true, MemoryLimit: 1 << 20})
	if err != nil {
		return err
	}
	for i := range m.Size() {
		m.Bytes()[i] = 1
	}
	if err := m.Sync(); err != nil {
		return err
	}
	for i := range m.Size() {
		m.Bytes()[i] = 2
	}
	fmt.Println("written")
	select {}
}

// A killed program leaves its store as at the last Sync, and no helper.
func TestMapProgramKilled(t *testing.T) {
	path := pack(t, content(3<<20, 23), store.CreateOptions{})
	c := command("abandon", path)
	c.Stderr = os.Stderr
	waitFor(t, c, "written\n")
	served := helpers(c.Process.Pid)
	if len(served) != 2 {
		t.Errorf("helpers are %v, want two", served)
	}
	c.Process.Kill()
	c.Wait()
	for pid := range served {
		eventually(t, fmt.Sprintf("end of helper %d", pid), func() bool { return unix.Kill(pid, 0) == unix.ESRCH || orphaned(pid) })
	}
	if !bytes.Equal(unpack(t, path), bytes.Repeat([]byte{1}, 3<<20)) {
		t.Error("store is not as at the last Sync")
	}
	s, err := store.Open(path, store.Options{Writable: true})
	if err != nil {
		t.Fatalf("open for writing: %v", err)
	}
	s.Close()
}

// orphaned says that pid has ended and waits for a parent that does not care.
func orphaned(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err != nil || bytes.Contains(b, []byte("State:\tZ"))
}

// waitFor starts c and waits until it prints line.
func waitFor(t *testing.T, c *exec.Cmd, line string) {
	t.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	watchdog := time.AfterFunc(30*time.Second, func() { c.Process.Kill() })
	defer watchdog.Stop()
	if got, err := bufio.NewReader(out).ReadString('\n'); got != line {
		t.Fatalf("%v: printed %q, want %q (%v)", c.Args[1:], got, line, err)
	}
}

// Replaced helpers are reaped: none is left as a zombie.
func TestMapReaps(t *testing.T) {
	m := mustMap(t, pack(t, content(1<<20, 24), store.CreateOptions{}), Options{})
	for range 10 {
		old := helper(os.Getpid(), rolePager)
		unix.Kill(old, unix.SIGKILL)
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
