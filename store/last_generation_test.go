package store

import (
	"bytes"
	"errors"
	"testing"
)

// A store that comes to the last generation that there can be stays as it is then: what
// can't be numbered is not committed, and who has nothing to commit may open it.
func TestLastGeneration(t *testing.T) {
	for left := range uint64(4) {
		f := newForge()
		f.sb.gen = maxGeneration - left
		want := text(MinFrameSize, "old ")
		d := diskWith(f.leaf(f.frame(kindLZ4, 0, want)).image())
		for i := range byte(5) {
			s, err := openDisk(d, nil, Options{Writable: true})
			must(t, err)
			p := noise(MinFrameSize, i)
			mustWrite(t, s, p, 0)
			var limit error
			if s.gen == maxGeneration {
				limit = errLastGeneration
			} else {
				want = p
			}
			for what, err := range map[string]error{"sync": s.Sync(), "close": s.Close()} {
				if !errors.Is(err, limit) {
					t.Errorf("%d generations left, commit %d: %s: %v, want %v", left, i, what, err, limit)
				}
			}
			s, err = openDisk(diskWith(d.durable), nil, Options{})
			must(t, err)
			if got, err := readAll(s); err != nil || !bytes.Equal(got, want) || len(checked(t, s)) > 0 {
				t.Fatalf("%d generations left, commit %d: what was committed is not there: %v", left, i, err)
			}
		}
		s, err := openDisk(d, nil, Options{Writable: true})
		must(t, err)
		must(t, s.Close())
	}
}
