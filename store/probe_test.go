package store

import (
	"os"
	"path/filepath"
	"testing"
)

// A besideDisk has something done behind one of the reads.
type besideDisk struct {
	fileDisk
	at int // so many reads before it
	do func()
}

func (d *besideDisk) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.fileDisk.ReadAt(p, off)
	if d.at--; d.at == 0 {
		d.do()
	}
	return n, err
}

// scrub overwrites all free space of the file.
func (s *Store) scrub(t *testing.T) {
	s.space.holes(1, func(e extent) bool {
		_, err := s.d.WriteAt(make([]byte, e.len), e.off)
		must(t, err)
		return true
	})
}

// Whatever a writer does while a store is probed, the answer is not older than the
// store was before.
func TestProbeBesideWriter(t *testing.T) {
	for _, commit := range []func(*Store) error{(*Store).Sync, (*Store).checkpointNow} {
		for at, done := 1, false; !done; at++ {
			path := filepath.Join(t.TempDir(), "x.lazy")
			w, err := Create(path, CreateOptions{FrameSize: MinFrameSize})
			must(t, err)
			write := func(n int64, commit func(*Store) error) {
				mustWrite(t, w, noise(int(n)*MinFrameSize, byte(n)), 0)
				must(t, commit(w))
			}
			write(3, (*Store).Sync)
			write(4, (*Store).Commit)
			write(5, (*Store).Commit)
			before := w.Generation()
			f, err := os.Open(path)
			must(t, err)
			d := &besideDisk{fileDisk{f}, at, func() {
				write(6, commit)
				write(7, (*Store).Sync)
				w.scrub(t)
			}}
			sum, err := newStore(d, f).probe()
			if err != nil || sum.Generation < before || sum.Size < 5*MinFrameSize {
				t.Errorf("changed behind read %d: %+v, %v, want generation %d at least", at, sum, err, before)
			}
			done = d.at > 0
			f.Close()
			must(t, w.Close())
		}
	}
}
