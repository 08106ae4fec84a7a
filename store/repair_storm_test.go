package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// However a store is damaged at random, Repair either refuses it or writes a store
// that holds right bytes wherever it reports nothing.
func TestRepairStorm(t *testing.T) {
	r := rand.New(rand.NewPCG(randomSeed(t), 0))
	b := breakable(t, "punched")
	for i := range someRuns(2, 15, 500) {
		image := bytes.Clone(b.image)
		for range 1 + r.IntN(8) {
			at, n := r.IntN(len(image)), 1+r.IntN(20_000)
			if r.IntN(4) == 0 {
				at = int(b.nodes[r.IntN(len(b.nodes))].off) // Nodes are few.
			}
			part := image[at:min(at+n, len(image))]
			switch r.IntN(3) {
			case 0:
				clear(part)
			case 1:
				part[0] ^= 1 << r.IntN(8)
			default:
				copy(part, image[r.IntN(len(image)):])
			}
		}
		got, _, losses, err := repaired(t, image)
		if err != nil {
			t.Fatalf("storm %d: %v", i, err)
		}
		b.judge(t, fmt.Sprintf("storm %d", i), got, losses)
	}
}

// Stores made to mislead are repaired or refused, like any other.
func TestRepairHostile(t *testing.T) {
	alone(t)
	for _, list := range [][]hostile{hostileFrames(), hostileEntries(), hostileIndexes(), hostileSuperblocks()} {
		for _, h := range list {
			_, _, _, err := repaired(t, h.forge.image())
			if e := expectedDamage(h.name, err); e != nil {
				t.Error(e)
			}
		}
	}
}

// A store that a writer has is not repaired under its hands.
func TestRepairLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	s, err := Create(path, CreateOptions{})
	must(t, err)
	defer s.Discard()
	src, err := os.Open(path)
	must(t, err)
	defer src.Close()
	if _, err := Repair(context.Background(), tempFile(t), src, nil, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("repair beside a writer: %v, want ErrLocked", err)
	}
}
