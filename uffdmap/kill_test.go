package uffdmap

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	end := time.Now().Add(d)
	var probes slowestTouches
	var failed error
	var probing sync.WaitGroup
	probing.Go(func() { probes, failed = probeTouches(m, end) })
	slowest, err := readAndWrite(m, data, end)
	probing.Wait()
	stop()
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if !bytes.Equal(m.Bytes(), data) {
		return errors.New("memory differs from what was written")
	}
	fmt.Printf("the slowest touch %v, of a goroutine %v, %+v\n", probes, slowest, m.Stats())
	if err := os.WriteFile(args[1], data, 0o600); err != nil {
		return err
	}
	return m.Close()
}

// readAndWrite checks and changes bytes of m until end, each goroutine its own
// part of every frame, and calls Sync, Prefetch and Protect in between. It returns
// how long the slowest touch took under each pager.
func readAndWrite(m *Mapping, data []byte, end time.Time) (slowest slowestTouches, err error) {
	const writers = 4
	const part = 512
	var errs [writers + 1]error
	var times [writers]slowestTouches
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(end.UnixNano()), uint64(w)))
			for time.Now().Before(end) {
				at := (r.IntN(len(data)/part/writers)*writers + w) * part
				got, want := m.Bytes()[at:at+part], data[at:at+part]
				begin := time.Now()
				if !bytes.Equal(got, want) {
					errs[w] = fmt.Errorf("bytes at %#x are wrong", at)
					return
				}
				if r.IntN(3) == 0 {
					want[r.IntN(part)]++
					copy(got, want)
				}
				times[w].add(m.table.head.takeovers.Load(), time.Since(begin))
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
	for _, t := range times {
		for pager, d := range t {
			slowest.add(uint64(pager), d)
		}
	}
	return slowest, errors.Join(errs[:]...)
}

// slowestTouches are the longest times that touches took, by the number of the
// pager that was there at their end.
type slowestTouches []time.Duration

func (s *slowestTouches) add(pager uint64, d time.Duration) {
	for uint64(len(*s)) <= pager {
		*s = append(*s, 0)
	}
	(*s)[pager] = max((*s)[pager], d)
}

func (s slowestTouches) String() string {
	sorted := slices.Sorted(slices.Values(s))
	at := func(percent int) time.Duration { return sorted[(len(sorted)-1)*percent/100] }
	return fmt.Sprintf("under each of %d pagers took %v in the middle, %v in 9 of 10, %v at most", len(s), at(50), at(90), at(100))
}

// A disturbance does something to helpers of program pid until end, and returns
// how often it did.
type disturbance func(t *testing.T, pid int, end time.Time) int

// kill kills a helper of one of the roles, with SIGKILL, whenever both helpers are
// there and some time has passed.
func kill(roles ...string) disturbance {
	return func(t *testing.T, pid int, end time.Time) int {
		const longest = 50 * time.Millisecond
		kills, last := 0, 0
		for time.Now().Before(end) {
			role := roles[rand.IntN(len(roles))]
			victim := 0
			eventually(t, "two helpers", func() bool {
				alive := map[string]int{}
				// At one look, since a standby that becomes the pager would pass
				// for both at two. The one killed last may not have ended yet.
				for n, name := range helpers(pid) {
					if n != last {
						alive[name] = n
					}
				}
				victim = alive["lazyfs-"+role]
				return alive["lazyfs-"+rolePager] != 0 && alive["lazyfs-"+roleStandby] != 0 || ended(pid)
			})
			if ended(pid) {
				break
			}
			must(t, "kill", unix.Kill(victim, unix.SIGKILL))
			kills++
			last = victim
			<-time.After(rand.N(longest))
		}
		return kills
	}
}

// halt stops a helper for a moment, with SIGSTOP, and lets it go on.
func halt(t *testing.T, pid int, end time.Time) int {
	const longest = 100 * time.Millisecond
	halts := 0
	for ; time.Now().Before(end); halts++ {
		victim := 0
		eventually(t, "a helper", func() bool {
			victim = helper(pid, []string{rolePager, roleStandby}[rand.IntN(2)])
			return victim != 0 || ended(pid)
		})
		if ended(pid) {
			break
		}
		must(t, "stop", unix.Kill(victim, unix.SIGSTOP))
		<-time.After(rand.N(longest))
		must(t, "go on", unix.Kill(victim, unix.SIGCONT))
	}
	return halts
}

// disturbed runs a program that reads and writes a mapping with this memory limit
// while its helpers are disturbed, for longer where a slow machine left no time.
func disturbed(t *testing.T, disturb disturbance, limit int64, env ...string) {
	t.Helper()
	d := seconds(2*time.Second, time.Minute)
	for range 5 {
		if disturbedFor(t, d, disturb, limit, env...) > 0 {
			return
		}
		d *= 2
	}
	t.Error("nothing was disturbed")
}

// disturbedFor is disturbed for a time, and returns how often.
func disturbedFor(t *testing.T, d time.Duration, disturb disturbance, limit int64, env ...string) int {
	t.Helper()
	path, plain := storeAndPlain(t, 16<<20, 21)
	c := command("killed", path, plain, d.String(), strconv.FormatInt(limit, 10))
	c.Env = append(c.Env, env...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	dog := watch(c, d+tooLong)
	times := disturb(t, c.Process.Pid, time.Now().Add(d))
	err := c.Wait()
	if hung := dog.stop(); hung != nil {
		err = hung
	}
	if err != nil {
		t.Fatalf("disturbed %d times: %v\n%s", times, err, out.String())
	}
	t.Logf("disturbed %d times: %s", times, out.String())
	want, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(unpack(t, path), want) {
		t.Error("store differs from what was written")
	}
	return times
}

// A pager that is killed again and again under load beside the garbage collector
// loses nothing: right bytes, unsynced writes included, no hang, and what was
// asked of it is done by its successor.
func TestMapPagerKilled(t *testing.T) {
	t.Run("all resident", func(t *testing.T) { disturbed(t, kill(rolePager), 0) })
	t.Run("evicting", func(t *testing.T) { disturbed(t, kill(rolePager), 4<<20) })
	t.Run("one processor", func(t *testing.T) { disturbed(t, kill(rolePager), 4<<20, "GOMAXPROCS=1") })
	// Signals make a waiting thread fault again, and hide that nobody woke it.
	t.Run("without signals", func(t *testing.T) { disturbed(t, kill(rolePager), 4<<20, "GODEBUG=asyncpreemptoff=1") })
}

// A standby that is killed again and again is replaced, and nobody notices.
func TestMapStandbyKilled(t *testing.T) { disturbed(t, kill(roleStandby), 4<<20) }

// It does not matter which of the two is killed.
func TestMapEitherKilled(t *testing.T) { disturbed(t, kill(rolePager, roleStandby), 4<<20) }

// Helpers that stand still for a while, as in a debugger, are waited for.
func TestMapHelperHalted(t *testing.T) { disturbed(t, halt, 4<<20) }
