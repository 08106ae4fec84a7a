package uffdmap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// stuckEnv names a folder: pagers read frames of odd number only once the folder
// has a file with that number for a name. A worker more than may wait for frames of
// one mapping gets an error, which ends the program that touches the frame.
const stuckEnv = "LAZYFS_TEST_STUCK"

type stuckSource struct {
	store.Source
	folder  string
	waiting atomic.Int32
}

func (s *stuckSource) ReadFrame(n int64, dst []byte) (bool, error) {
	arrived := func() bool {
		_, err := os.Stat(filepath.Join(s.folder, strconv.FormatInt(n, 10)))
		return err == nil
	}
	if n%2 == 1 {
		defer s.waiting.Add(-1)
		if int(s.waiting.Add(1)) > minWorkers()-2 {
			return false, errors.New("too many workers wait for frames of one mapping")
		}
		if err := await(fmt.Sprintf("frame %d", n), arrived); err != nil {
			return false, err
		}
	}
	return s.Source.ReadFrame(n, dst)
}

func init() { bodies["stuck"] = stuckBody }

// stuckBody touches more frames that don't come than the pager has threads, and
// goes on with the others meanwhile.
func stuckBody(args []string) error {
	debug.SetGCPercent(-1) // It would wait for the frames, and nobody would let them go.
	m, err := Map(args[0], Options{Private: true})
	if err != nil {
		return err
	}
	data := content(int(m.Size()), 30)
	const touches = 20
	done := make(chan error, touches)
	for i := range touches {
		go func() {
			at := (2*i + 1) << 14
			if got := m.Bytes()[at]; got != data[at] {
				done <- fmt.Errorf("byte %#x is %#x, want %#x", at, got, data[at])
			}
			done <- nil
		}()
	}
	if err := await("frames being read", func() bool { return m.Stats().Faults >= 2 }); err != nil {
		return err
	}
	if err := m.Prefetch(Range{0, 1}, Range{64 << 14, 1}); err != nil {
		return err
	}
	m.Bytes()[0] = 1      // protected
	m.Bytes()[64<<14] = 1 // protected
	if got := m.Stats().Writes; got != 2 {
		return fmt.Errorf("%d writes were let through, want 2", got)
	}
	select {
	case err := <-done:
		return fmt.Errorf("a frame came that is not there: %v", err)
	default:
	}
	for i := range touches {
		if err := os.WriteFile(filepath.Join(os.Getenv(stuckEnv), strconv.Itoa(2*i+1)), nil, 0o600); err != nil {
			return err
		}
	}
	for range touches {
		err = errors.Join(err, <-done)
	}
	return errors.Join(err, m.Close())
}

// However many frames of a store don't come, writes to protected frames go
// through, and every frame comes as soon as it can.
func TestPagerStuckStore(t *testing.T) {
	c := command("stuck", pack(t, content(4<<20, 30), store.CreateOptions{}))
	// Without signals nothing but an answer lets a waiting thread go on.
	c.Env = append(c.Env, stuckEnv+"="+t.TempDir(), "GOMAXPROCS=24", "GODEBUG=asyncpreemptoff=1")
	run(t, c, tooLong)
}

func init() { bodies["stuck beside"] = stuckBesideBody }

// stuckBesideBody touches more frames that don't come, of several mappings, than
// the pager has threads at first, and then all of another mapping that come.
func stuckBesideBody(args []string) error {
	debug.SetGCPercent(-1) // It would wait for the frames.
	for range 4 {
		stuck, err := Map(args[0], Options{Private: true})
		if err != nil {
			return err
		}
		for i := range 10 {
			go func() { stuck.Bytes()[(2*i+1)<<14]++ }()
		}
		if err := await("loads", func() bool { return stuck.Stats().Faults >= 2 }); err != nil {
			return err
		}
	}
	asked, err := Map(args[0], Options{Private: true})
	if err != nil {
		return err
	}
	go asked.Prefetch(Range{1 << 14, 1})
	other, err := Map(args[0], Options{Private: true})
	if err != nil {
		return err
	}
	err = await("the pager being asked", func() bool {
		asked.client.mu.Lock() // held until a request is sent
		defer asked.client.mu.Unlock()
		return len(asked.client.calls) > 0
	})
	if err := errors.Join(err, other.Prefetch(Range{0, 1}), other.Protect()); err != nil {
		return err
	}
	data := content(int(other.Size()), 31)
	for at := 0; at < len(data); at += 5 * 2 << 14 { // Not in sequence, which would bring in odd frames.
		if other.Bytes()[at] != data[at] {
			return fmt.Errorf("byte %#x is wrong", at)
		}
	}
	fmt.Println("done")
	select {}
}

// Stores that do not answer keep nobody from another mapping of their pager,
// however many wait for them.
func TestStuckBesideAnother(t *testing.T) {
	c := command("stuck beside", pack(t, content(4<<20, 31), store.CreateOptions{}))
	c.Env = append(c.Env, stuckEnv+"="+t.TempDir(), "GOMAXPROCS=64", "GODEBUG=asyncpreemptoff=1")
	waitFor(t, c, "done\n")
	c.Process.Kill()
	c.Wait()
}

func init() { bodies["stuck write"] = stuckWriteBody }

// stuckWriteBody writes to the protected pages of frames of which another page does
// not come, and then to a frame that is all there.
func stuckWriteBody(args []string) error {
	debug.SetGCPercent(-1) // It would wait for the pages.
	m, err := Map(args[0], Options{Private: true})
	if err != nil {
		return err
	}
	const frame = 1 << 14
	const whole = 254
	var seen atomic.Int32
	b, folder := m.Bytes(), os.Getenv(stuckEnv)
	frames := stuckFrames()
	for _, n := range frames {
		allow := filepath.Join(folder, strconv.Itoa(n))
		if err := os.WriteFile(allow, nil, 0o600); err != nil {
			return err
		}
		seen.Store(int32(b[n*frame]))
		err := errors.Join(os.Remove(allow), unix.Madvise(m.mem[n*frame:n*frame+pageSize], unix.MADV_REMOVE))
		if err != nil {
			return err
		}
	}
	seen.Store(int32(b[whole*frame]))
	faults := m.Stats().Faults
	for _, n := range frames {
		go func() { seen.Store(int32(b[n*frame])) }()
	}
	if err := await("loads", func() bool { return m.Stats().Faults >= faults+2 }); err != nil {
		return err
	}
	for _, n := range frames {
		go func() { b[n*frame+pageSize] = 1 }()
	}
	time.Sleep(50 * time.Millisecond) // Nothing shows that the writes wait.
	b[whole*frame] = 1
	fmt.Println("done")
	select {}
}

// stuckFrames are more frames than the pager begins with threads, not in sequence, of
// the 254 first ones.
func stuckFrames() (frames []int) {
	for n := range min(minWorkers()+2, 253/4) {
		frames = append(frames, 1+4*n)
	}
	return frames
}

// A write to a frame that is just being loaded keeps no other write waiting.
func TestStuckWrite(t *testing.T) {
	c := command("stuck write", pack(t, content(4<<20, 32), store.CreateOptions{}))
	procs := 2*len(stuckFrames()) + 12 // Whoever waits for a page keeps a P.
	c.Env = append(c.Env, stuckEnv+"="+t.TempDir(), fmt.Sprintf("GOMAXPROCS=%d", procs), "GODEBUG=asyncpreemptoff=1")
	waitFor(t, c, "done\n")
	c.Process.Kill()
	c.Wait()
}

func init() { bodies["stuck burst"] = stuckBurstBody }

// stuckBurstBody touches more frames that don't come than a worker hears of at once,
// and writes to a protected page, while the pager stands.
func stuckBurstBody(args []string) error {
	debug.SetGCPercent(-1) // It would wait for the frames.
	m, err := Map(args[0], Options{Private: true})
	if err != nil {
		return err
	}
	var seen atomic.Int32
	seen.Store(int32(m.Bytes()[0]))
	pager, err := living(rolePager)
	if err != nil {
		return err
	}
	err = errors.Join(unix.Kill(pager, unix.SIGSTOP), unix.Waitid(unix.P_PID, pager, nil, unix.WSTOPPED, nil))
	if err != nil {
		return err
	}
	touches := 0
	touch := func(do func()) {
		go do()
		touches++
		err = errors.Join(err, await("the touch", func() bool { return waiting(m) == touches }))
	}
	for i := range maxEvents + 8 {
		touch(func() { seen.Store(int32(m.Bytes()[(2*i+1)<<14])) })
	}
	written := make(chan struct{})
	touch(func() {
		m.Bytes()[0] = 1
		close(written)
	})
	if err := errors.Join(err, unix.Kill(pager, unix.SIGCONT)); err != nil {
		return err
	}
	<-written
	fmt.Println("done")
	select {}
}

// waiting is how many threads wait for pages of m.
func waiting(m *Mapping) (n int) {
	info, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", m.fds[fdUffd]))
	_, total, _ := strings.Cut(string(info), "total:")
	fmt.Sscan(total, &n)
	return n
}

// More touches at once than a worker hears of keep no write waiting that comes with them.
func TestStuckBurst(t *testing.T) {
	c := command("stuck burst", pack(t, content(4<<20, 33), store.CreateOptions{}))
	c.Env = append(c.Env, stuckEnv+"="+t.TempDir(), "GOMAXPROCS=64", "GODEBUG=asyncpreemptoff=1")
	waitFor(t, c, "done\n")
	c.Process.Kill()
	c.Wait()
}
