package uffdmap

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"unsafe"

	"lazyfs/store"
)

func init() { bodies["moving"] = movingBody }

// movingBody looks whether a frame is dirty, and moves it from syncing to dirty when
// the look has come to syncing. That lies in a mapping, in a frame that does not come
// before.
func movingBody(args []string) error {
	debug.SetGCPercent(-1) // It would wait for the frame.
	m, err := Map(args[0], Options{})
	if err != nil {
		return err
	}
	const frame = 1 << 14
	syncing := (*uint64)(unsafe.Pointer(&m.Bytes()[frame]))
	tb := &table{dirty: make(bitmap, 1), syncing: unsafe.Slice(syncing, 1)}
	looked := make(chan bool)
	go func() { looked <- tb.isDirty(3) }()
	if err := await("a look at syncing", func() bool { return m.Stats().Faults > 0 }); err != nil {
		return err
	}
	tb.dirty.set(3)
	// It comes as zeros: the frame has left syncing.
	if err := os.WriteFile(filepath.Join(os.Getenv(stuckEnv), "1"), nil, 0o600); err != nil {
		return err
	}
	if !<-looked {
		return errors.New("a frame that moved from syncing to dirty was found clean")
	}
	return m.Close()
}

// A frame that a failed Sync makes dirty again is dirty for who looks meanwhile: its
// eviction would lose what was written.
func TestTableIsDirty(t *testing.T) {
	c := command("moving", pack(t, make([]byte, 1<<16), store.CreateOptions{}))
	c.Env = append(c.Env, stuckEnv+"="+t.TempDir(), "GOMAXPROCS=4", "GODEBUG=asyncpreemptoff=1")
	run(t, c, tooLong)
}
