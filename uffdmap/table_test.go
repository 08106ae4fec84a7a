package uffdmap

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"lazyfs/store"
)

func init() { bodies["moving"] = movingBody }

// looks tell in some way whether frame 3 is dirty.
var looks = map[string]func(*table) bool{
	"isDirty": func(tb *table) bool { return tb.isDirty(3) },
	"union": func(tb *table) bool {
		for n := range tb.union(tb.dirty, tb.syncing, 0) {
			return n == 3
		}
		return false
	},
}

// movingBody looks whether a frame is dirty, and moves it from syncing to dirty when
// the look has come to syncing. That lies in a mapping, in a frame that does not come
// before.
func movingBody(args []string) error {
	debug.SetGCPercent(-1) // It would wait for the frame.
	m, err := Map(args[0], Options{Private: true})
	if err != nil {
		return err
	}
	const frame = 1 << 14
	if err := m.Prefetch(Range{0, frame}); err != nil {
		return err
	}
	used, err := os.Create(filepath.Join(filepath.Dir(args[0]), "used")) // as a table that is all in use
	if err != nil {
		return err
	}
	defer used.Close()
	if _, err := used.Write(make([]byte, m.Size())); err != nil {
		return err
	}
	tb := &table{
		fd: int(used.Fd()), mem: m.Bytes(),
		dirty: bitmapIn(m.Bytes(), 1), syncing: bitmapIn(m.Bytes()[frame:], 1),
	}
	looked := make(chan bool)
	go func() { looked <- looks[args[1]](tb) }()
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
	for look := range looks {
		c := command("moving", pack(t, make([]byte, 1<<16), store.CreateOptions{}), look)
		c.Env = append(c.Env, stuckEnv+"="+t.TempDir(), "GOMAXPROCS=4", "GODEBUG=asyncpreemptoff=1")
		run(t, c, tooLong)
	}
}
