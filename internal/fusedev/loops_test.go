package fusedev

import (
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// After the kernel's last request no loop begins, whoever asks for one: the device's
// descriptor may belong to another file by then.
func TestNoLoopAfterEnd(t *testing.T) {
	k := connect(t, fuse.NewDefaultRawFileSystem()).serve()
	k.end()
	before := len(k.c.loops)
	k.c.readers.Store(0)
	k.c.relieve()
	k.c.mu.Lock()
	k.c.call()
	k.c.mu.Unlock()
	if got := len(k.c.loops); got != before {
		t.Errorf("%d loops, want the %d that there were", got, before)
	}
}

// No more loops begin than there may be while one reads.
func TestLoopsAreBounded(t *testing.T) {
	k := connect(t, fuse.NewDefaultRawFileSystem())
	k.c.mu.Lock()
	k.c.most = len(k.c.loops)
	k.c.readers.Store(1)
	k.c.call()
	k.c.mu.Unlock()
	k.c.relieve()
	if got := len(k.c.loops); got != k.c.most {
		t.Errorf("%d loops, want %d", got, k.c.most)
	}
	k.serve()
}

// Who goes through the loops goes on as they were when one that is not needed ends.
func TestLoopsStayForReaders(t *testing.T) {
	k := connect(t, fuse.NewDefaultRawFileSystem())
	k.c.crew = 0 // Nobody is kept for others.
	k.c.readers.Store(1)
	k.c.add()
	seen := k.c.loops
	want := slices.Clone(seen)
	if k.c.join(seen[1]) {
		t.Error("a loop that is not needed joins")
	}
	if !slices.Equal(seen, want) {
		t.Errorf("the loops are %v, were %v", seen, want)
	}
	if got := len(k.c.loops); got != 1 {
		t.Errorf("%d loops, want 1", got)
	}
	k.serve()
}
