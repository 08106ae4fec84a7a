package test

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"

	"lazyfs/store"
)

// copy makes a store of one generation while another process commits new ones and
// compacts: every page of the copy is of the same commit, and no older than what was
// committed when it began.
func TestCopyBesideWriter(t *testing.T) {
	const pages = 300
	dir := t.TempDir()
	s, err := store.Create(dir+"/x.lazy", store.CreateOptions{FrameSize: 4096, DirtyBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	round := func(n int) {
		if _, err := s.WriteAt(bytes.Repeat([]byte{'a' + byte(n%26)}, pages*4096), 0); err != nil {
			t.Error(err)
		}
		commit := s.Commit
		if n%2 == 0 {
			commit = s.Sync
		}
		if n%7 == 6 {
			commit = func() error { return s.Compact(t.Context(), store.CompactOptions{}) }
		}
		if err := commit(); err != nil {
			t.Error(err)
		}
	}
	round(0)
	var committed atomic.Int64
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			round(n)
			committed.Store(int64(n))
		}
	}()
	seen := map[byte]bool{}
	for range 8 {
		from := committed.Load()
		must(t, dir, "copy", "--force", "-q", "x.lazy", "y.lazy")
		to := committed.Load() + 1
		must(t, dir, "check", "y.lazy")
		got := must(t, dir, "cat", "y.lazy")
		if len(got) != pages*4096 || strings.Trim(got, got[:1]) != "" {
			t.Errorf("the copy has %d bytes of more than one commit", len(got))
		}
		found := false
		for n := from; n <= to; n++ {
			found = found || got[0] == 'a'+byte(n%26)
		}
		if !found {
			t.Errorf("the copy is of commit %c, want one of %d to %d", got[0], from, to)
		}
		seen[got[0]] = true
	}
	close(stop)
	<-stopped
	t.Logf("8 copies of %d commits, while %d were made", len(seen), committed.Load())
}
