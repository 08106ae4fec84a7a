package test

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whenever compact is interrupted or killed, be it at once or near its end, the
// store is whole and has every byte; and the next compact does the rest.
func TestCompactKilledAnywhere(t *testing.T) {
	runs := 10
	if os.Getenv("LAZYFS_LONG") != "" {
		runs = 200
	}
	dir := t.TempDir()
	want := holed(t, dir+"/x.lazy", text(3, 6<<20))
	codecs := []string{"zstd", "lz4", "gzip"}
	begin := time.Now()
	must(t, dir, "compact", "--codec", "gzip", "x.lazy")
	whole := time.Since(begin)
	ended, commits := 0, map[unix.Signal]uint64{}
	for i := range runs {
		sig := []unix.Signal{unix.SIGKILL, unix.SIGINT}[i%2]
		before := generation(t, dir+"/x.lazy")
		c := command(dir, "compact", "--codec", codecs[i%len(codecs)], "x.lazy")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		killer := time.AfterFunc(time.Duration(rand.Int64N(int64(whole))), func() { _ = c.Process.Signal(sig) })
		if c.Wait() == nil {
			ended++
		}
		killer.Stop()
		must(t, dir, "check", "x.lazy")
		if got := must(t, dir, "cat", "x.lazy"); got != string(want) {
			t.Fatalf("run %d, after %v: other bytes", i, sig)
		}
		commits[sig] += generation(t, dir+"/x.lazy") - before
	}
	must(t, dir, "compact", "--codec", "lz4", "x.lazy")
	if got := must(t, dir, "cat", "x.lazy"); got != string(want) {
		t.Error("other bytes in the end")
	}
	t.Logf("%d of %d runs ended before they were stopped; commits until then: %v", ended, runs, commits)
}
