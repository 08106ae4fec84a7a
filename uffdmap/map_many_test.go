package uffdmap

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// A thousand mappings have one pager and one standby, which can replace it, and
// leave nothing behind.
func TestMapThousand(t *testing.T) {
	data := content(100_000, 60)
	path := pack(t, data, store.CreateOptions{})
	before := len(descriptors(t))
	var all []*Mapping
	for range 1000 {
		all = append(all, mustMap(t, path, Options{}))
	}
	eventually(t, "two helpers", func() bool { return helper(os.Getpid(), roleStandby) != 0 })
	if h := helpers(os.Getpid()); len(h) != 2 {
		t.Errorf("helpers are %v, want two", h)
	}
	for _, m := range all[:500] {
		same(t, "mapping", m.Bytes(), data)
	}
	must(t, "kill", killPager())
	for _, m := range slices.Backward(all) {
		same(t, "mapping", m.Bytes(), data)
	}
	for _, m := range all {
		must(t, "close", m.Close())
	}
	if h := helpers(os.Getpid()); len(h) > 0 {
		t.Errorf("helpers %v are left", h)
	}
	if after := len(descriptors(t)); after != before {
		t.Errorf("%d descriptors are left", after-before)
	}
}

// patienceEnv is how long pagers wait for a standby's answer.
const patienceEnv = "LAZYFS_TEST_PATIENCE"

// A standby that is stopped is replaced when it is needed, and keeps nobody
// waiting.
func TestMapStandbyHalted(t *testing.T) {
	t.Setenv(patienceEnv, "2s") // enough for one that goes, on a busy machine
	data := content(100_000, 61)
	path := pack(t, data, store.CreateOptions{})
	m := mustMap(t, path, Options{Private: true})
	var stopped int
	eventually(t, "a standby", func() bool {
		stopped = helper(os.Getpid(), roleStandby)
		return stopped != 0
	})
	stop(t, stopped)
	other := mustMap(t, path, Options{})
	same(t, "other mapping", other.Bytes(), data)
	eventually(t, "another standby", func() bool {
		now := helper(os.Getpid(), roleStandby)
		return now != 0 && now != stopped
	})
	eventually(t, "end of the stopped one", func() bool { return ended(stopped) })
	m.Bytes()[0]++
	must(t, "kill", killPager())
	data[0]++
	same(t, "mapping", m.Bytes(), data)
	must(t, "close", errors.Join(m.Close(), other.Close()))
}

// Where the number of descriptors is bounded, a mapping too many is an error, and
// those that are there go on.
func TestMapTooMany(t *testing.T) {
	var was unix.Rlimit
	must(t, "get limit", unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	few := was
	few.Cur = 100
	must(t, "set limit", unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
	data := content(100_000, 62)
	path := pack(t, data, store.CreateOptions{})
	var all []*Mapping
	for {
		m, err := Map(path, Options{})
		if err != nil {
			if !errors.Is(err, unix.EMFILE) {
				t.Errorf("mapping %d: %v, want EMFILE", len(all), err)
			}
			break
		}
		all = append(all, m)
	}
	for _, m := range all {
		if !bytes.Equal(m.Bytes(), data) {
			t.Error("mapping differs from what was packed")
		}
		must(t, "close", m.Close())
	}
	if len(all) < 10 {
		t.Errorf("%d mappings, want at least 10", len(all))
	}
}
