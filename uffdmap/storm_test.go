package uffdmap

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lazyfs/store"
)

// collect runs the garbage collector without pause until the returned function
// is called.
func collect() (stop func()) {
	var done atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !done.Load() {
			runtime.GC()
		}
	}()
	return func() {
		done.Store(true)
		<-ended
	}
}

// examine reads a random stretch of b in one of the ways that can't be preempted,
// and says whether it is that of want.
func examine(r *rand.Rand, b, want []byte) error {
	at := r.IntN(len(b))
	n := min(1+r.IntN(1<<r.IntN(18)), len(b)-at)
	got, good := b[at:at+n], want[at:at+n]
	ok := false
	switch r.IntN(4) {
	case 0:
		into := make([]byte, n)
		copy(into, got)
		ok = bytes.Equal(into, good)
	case 1:
		ok = bytes.Equal(got, good)
	case 2:
		ok = crc32.ChecksumIEEE(got) == crc32.ChecksumIEEE(good)
	case 3:
		ok = sha256.Sum256(got) == sha256.Sum256(good)
	}
	if !ok {
		return fmt.Errorf("%d bytes at %#x are wrong", n, at)
	}
	return nil
}

func init() { bodies["storm"] = stormBody }

// stormBody maps a store again and again, for some time, and examines it from
// several goroutines beside the garbage collector.
func stormBody(args []string) error {
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	defer collect()()
	held, err := Map(args[0], Options{}) // keeps the helpers
	if err != nil {
		return err
	}
	rounds, longest := 0, time.Duration(0)
	for end := time.Now().Add(d); time.Now().Before(end); rounds++ {
		begin := time.Now()
		if err := stormRound(args[0], data, uint64(rounds)); err != nil {
			return err
		}
		longest = max(longest, time.Since(begin))
	}
	fmt.Printf("%d rounds, the longest took %v\n", rounds, longest)
	return held.Close()
}

func stormRound(path string, data []byte, seed uint64) error {
	m, err := Map(path, Options{Private: seed%2 == 0})
	if err != nil {
		return err
	}
	const readers = 6
	var errs [readers]error
	var all sync.WaitGroup
	for i := range readers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for range 60 {
				if errs[i] = examine(r, m.Bytes(), data); errs[i] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errors.Join(errs[:]...), m.Close())
}

// storeAndPlain makes a store, and a file with the same bytes.
func storeAndPlain(t *testing.T, size int, seed uint64) (path, plain string) {
	t.Helper()
	data := content(size, seed)
	path = pack(t, data, store.CreateOptions{})
	plain = filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, plain
}

// The runtime never hangs on an absent page, whatever touches it, beside constant
// garbage collection, and every byte is right. A handler in the same program
// hangs here within milliseconds.
func TestMapCollectorStorm(t *testing.T) {
	path, plain := storeAndPlain(t, 16<<20, 20)
	d := seconds(5*time.Second, time.Minute)
	for _, procs := range []int{1, 2, 8} {
		t.Run(fmt.Sprintf("procs=%d", procs), func(t *testing.T) {
			c := command("storm", path, plain, d.String())
			c.Env = append(c.Env, "GOMAXPROCS="+strconv.Itoa(procs))
			t.Log(run(t, c, d+tooLong))
		})
	}
	// Signals make a waiting thread fault again, and hide that nobody woke it.
	t.Run("without signals", func(t *testing.T) {
		d := seconds(2*time.Second, time.Minute)
		c := command("storm", path, plain, d.String())
		c.Env = append(c.Env, "GODEBUG=asyncpreemptoff=1")
		t.Log(run(t, c, d+tooLong))
	})
}
