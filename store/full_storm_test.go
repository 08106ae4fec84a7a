package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever is written, cut and punched while others fill the disk and make room
// again, a write that was accepted is never refused later: each Sync and Close
// succeeds, and nothing is lost.
func TestFullDiskStorm(t *testing.T) {
	for range someRuns(2, 4, 300) {
		seed := randomSeed(t)
		r := rand.New(rand.NewPCG(seed, 11))
		frame := int64(4<<10) << (2 * r.IntN(3))
		m := stepMaker{r: r, frame: frame, frames: max(32, (6<<20)/frame), weights: []weight{{"write", 40}, {"truncate", 1},
			{"punch", 6}, {"sync", 6}, {"commit", 3}, {"checkpoint", 1}, {"close", 1}, {"fill", 3}, {"free", 2}}}
		if fault := fullFault(t, frame, m.steps(300)); fault != "" {
			t.Fatalf("seed %d, frames of %d: %s", seed, frame, fault)
		}
	}
}

// fullFault does the steps to a store on a disk of 6 MiB and says what is wrong.
func fullFault(t *testing.T, frame int64, steps []step) string {
	dir := smallDisk(t, "6m")
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := filepath.Join(dir, "s.lazy")
	s, err := Create(path, CreateOptions{FrameSize: int(frame), DirtyBytes: 1 << 20})
	must(t, err)
	defer func() { s.Discard() }()
	want, full := newPlainFile(nil), 0
	for i, st := range steps {
		if st.what == "write" {
			st.n *= 1 + int64(st.seed>>8%16)
			st.n = min(st.n, 600<<10)
		}
		switch st.what {
		case "fill":
			fillDisk(t, dir)
			continue
		case "free":
			os.Remove(filepath.Join(dir, "other"))
			continue
		case "close":
			if err = s.Close(); err == nil {
				s, err = Open(path, Options{Writable: true, DirtyBytes: 1 << 20})
			}
		default:
			err = st.do(s, want)
		}
		if isNoSpace(err) && slices.Contains([]string{"write", "truncate", "punch", "checkpoint"}, st.what) {
			full++
			err = nil
		}
		if err == nil {
			err = firstError(s.spaceFault(), s.blocksFault(), s.owedFault())
		}
		if err != nil {
			return fmt.Sprintf("step %d, %v, after %d writes without room: %v", i, st, full, err)
		}
		if diff := want.diff(s); diff != "" {
			return fmt.Sprintf("step %d, %v: %s", i, st, diff)
		}
	}
	if err := s.Close(); err != nil {
		return fmt.Sprintf("close: %v", err)
	}
	s, err = Open(path, Options{})
	must(t, err)
	must(t, s.Check(context.Background(), func(d *DamageError) { t.Error(d) }, nil))
	t.Logf("%d writes without room", full)
	return want.diff(s)
}

// blocksFault says when fewer blocks are on the disk than the store counts on, once
// what it is writing is there.
func (s *Store) blocksFault() error {
	s.flusher.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.space == nil {
		return nil
	}
	top := roundUp(max(s.reserved, s.blocks.end), blockLen)
	believed := top - s.blocks.punched.count(span{0, top})
	if there, err := s.d.Blocks(); err != nil || there < believed {
		return fmt.Errorf("the file has %d bytes of the disk, %v, the store counts on %d", there, err, believed)
	}
	return nil
}
