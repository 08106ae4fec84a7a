package uffdmap

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// bodyEnv makes the test program run one of bodies instead of its tests.
const bodyEnv = "LAZYFS_TEST_BODY"

// bodies are programs that tests start, because they may hang or are killed.
// Each gets the arguments that the test gave.
var bodies = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	// The race detector makes every helper sleep a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	if stuck := os.Getenv(stuckEnv); stuck != "" {
		wrapSource = func(s store.Source) store.Source { return &stuckSource{Source: s, folder: stuck} }
	}
	if failing := os.Getenv(failingEnv); failing != "" {
		wrapSource = func(s store.Source) store.Source { return failingSource{s, failing} }
	}
	if opening := os.Getenv(openingEnv); opening != "" {
		wrapSource = func(s store.Source) store.Source { return openingSource{s, opening} }
	}
	if slow := os.Getenv(slowEnv); slow != "" && os.Getenv(helperEnv) == roleStandby {
		wrapSource = func(s store.Source) store.Source { return slowSource(s, slow) }
	}
	if os.Getenv(lastEnv) != "" && os.Getenv(helperEnv) == roleStandby {
		inner := wrapSource
		wrapSource = func(s store.Source) store.Source { return inner(lastSource(s)) }
	}
	if os.Getenv(aloneEnv) != "" && os.Getenv(helperEnv) == rolePager {
		if err := denyExec(); err != nil {
			panic(err)
		}
	}
	if held := os.Getenv(heldEnv); held != "" && os.Getenv(helperEnv) == roleStandby {
		awaitGone(held)
	}
	if d, err := time.ParseDuration(os.Getenv(patienceEnv)); err == nil {
		standbyPatience = d
	}
	if folder := os.Getenv(stillbornEnv); folder != "" && os.Getenv(helperEnv) != "" {
		endEarly(folder)
	}
	if os.Getenv(noMainEnv) == "" || os.Getenv(helperEnv) != "" {
		Main()
	}
	if name := os.Getenv(bodyEnv); name != "" {
		if err := bodies[name](os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(guardedEnv) == "" {
		os.Exit(guard())
	}
	os.Exit(m.Run())
}

// storming says that tests may take a minute each.
var storming = os.Getenv("LAZYFS_LONG") != ""

// seconds is how long a storm blows.
func seconds(short, atLength time.Duration) time.Duration {
	switch {
	case storming:
		return atLength
	case testing.Short():
		return short / 4
	}
	return short
}

// command prepares to run a body in a process of its own.
func command(name string, args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), bodyEnv+"="+name, "GOTRACEBACK=crash") // all threads, should the watchdog ask
	return c
}

// run runs a prepared command, ends it when it takes longer than limit, which is
// a failure, and returns its output.
func run(t *testing.T, c *exec.Cmd, limit time.Duration) string {
	t.Helper()
	out, err := output(c, limit)
	if err != nil {
		t.Fatalf("%v: %v\n%s", c.Args[1:], err, out)
	}
	return out
}

func output(c *exec.Cmd, limit time.Duration) (string, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	c.WaitDelay = 5 * time.Second
	if err := c.Start(); err != nil {
		return "", err
	}
	dog := watch(c, limit)
	err := c.Wait()
	if hung := dog.stop(); hung != nil {
		err = hung
	}
	return out.String(), err
}

// eventually waits until ok, and fails the test after a while.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if err := await(what, ok); err != nil {
		t.Fatal(err)
	}
}

// await waits until ok; after a while that is an error.
func await(what string, ok func() bool) error {
	const patience = time.Minute
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %s", patience, what)
		}
		time.Sleep(time.Millisecond) // between two looks at the condition
	}
	return nil
}

// content makes bytes that compress a little, with a stretch of zeros.
func content(size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, size)
	for i := 0; i+8 <= len(b); i += 8 {
		v := r.Uint64()
		for k := range 4 {
			b[i+k] = byte(v >> (8 * k))
		}
	}
	if size > 1<<20 {
		clear(b[size/2 : size/2+256<<10])
	}
	return b
}

// pack makes a store of data and returns its path.
func pack(t testing.TB, data []byte, o store.CreateOptions) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.lazy")
	if err := packTo(path, data, o); err != nil {
		t.Fatal(err)
	}
	return path
}

func packTo(path string, data []byte, o store.CreateOptions) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = store.Pack(context.Background(), f, bytes.NewReader(data), store.PackOptions{CreateOptions: o})
	return err
}

// unpack returns the content of the store at path, which must pass its check.
func unpack(t testing.TB, path string) []byte {
	t.Helper()
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Check(context.Background(), func(d *store.DamageError) { t.Errorf("check: %v", d) }, nil)
	if err != nil {
		t.Errorf("check: %v", err)
	}
	b, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// helpers are the processes that serve the program pid: their names by their
// pids. Its dead children that were not reaped are included.
func helpers(pid int) map[int]string {
	found := map[int]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		text := string(b)
		open, shut := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
		fields := strings.Fields(text[shut+1:])
		name := text[open+1 : shut]
		if fields[0] == "Z" {
			name = "dead"
		}
		if fields[1] != strconv.Itoa(pid) || name != "dead" && !strings.HasPrefix(name, "lazyfs-") {
			continue
		}
		n, _ := strconv.Atoi(strings.TrimSpace(text[:open]))
		found[n] = name
	}
	return found
}

// helper is the pid of a living helper of program pid, 0 when there is none.
func helper(pid int, role string) int {
	for n, name := range helpers(pid) {
		if name == "lazyfs-"+role {
			return n
		}
	}
	return 0
}

// living waits for a helper of this process and returns its pid.
func living(role string) (pid int, err error) {
	err = await("a "+role, func() bool {
		pid = helper(os.Getpid(), role)
		return pid != 0
	})
	return pid, err
}

// killPager kills the pager of this process when there is a standby that may succeed it.
func killPager() error {
	pager, err := living(rolePager)
	if err != nil {
		return err
	}
	if _, err := living(roleStandby); err != nil {
		return err
	}
	return unix.Kill(pager, unix.SIGKILL)
}

// stop stops all threads of a helper. Only one of them has to see the signal at once;
// the others go on meanwhile.
func stop(t *testing.T, pid int) {
	t.Helper()
	must(t, "stop", unix.Kill(pid, unix.SIGSTOP))
	must(t, "wait until it stands", unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED, nil))
}

// descriptors lists what this process has open.
func descriptors(t *testing.T) map[string]string {
	t.Helper()
	list := map[string]string{}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			list[e.Name()] = to
		}
	}
	return list
}
