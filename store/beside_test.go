package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"lazyfs/codec"
)

// Everything that a store can do goes on at once: writers, each in a part of its own, see what they wrote, the end moves, commits, compactions to other codecs, which
// are broken off at times, and copies come in between, and readers see one generation.
func TestEverythingAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	s, err := Create(path, CreateOptions{FrameSize: MinFrameSize, DirtyBytes: 32 << 10, Cache: NewCache(256 << 10)})
	must(t, err)
	p := &party{t: t, s: s, path: path, seed: randomSeed(t), parts: make([][]byte, 4)}
	for i := range p.parts {
		p.parts[i] = make([]byte, partLen)
	}
	must(t, s.Truncate(int64(len(p.parts))*partLen))
	var busy, done sync.WaitGroup
	var enough atomic.Bool
	for i := range p.parts {
		done.Go(func() {
			r := rand.New(rand.NewPCG(p.seed, uint64(i)))
			for range someRuns(40, 200, 8000) {
				if err := p.see(r, i); err != nil {
					t.Errorf("writer %d: %v", i, err)
					return
				}
			}
		})
	}
	for i, act := range []func(*rand.Rand) error{p.commit, p.resize, p.compact, p.copy, p.read, p.look} {
		busy.Go(func() {
			r := rand.New(rand.NewPCG(p.seed, 100+uint64(i)))
			for !enough.Load() {
				if err := act(r); err != nil {
					t.Errorf("actor %d: %v", i, err)
					return
				}
			}
		})
	}
	done.Wait()
	enough.Store(true)
	busy.Wait()
	if s.booked != 0 {
		t.Errorf("%d frames are booked still", s.booked)
	}
	must(t, s.Sync())
	must(t, s.spaceFault())
	must(t, s.Truncate(int64(len(p.parts))*partLen))
	must(t, s.Close())
	verifyStore(t, path, bytes.Join(p.parts, nil))
}

// partLen is the length of one writer's part.
const partLen = 32 * MinFrameSize

type party struct {
	t     *testing.T
	s     *Store
	path  string
	seed  uint64
	parts [][]byte // what each writer has written
}

// see writes to part i in one of the ways that there are, and reads it.
func (p *party) see(r *rand.Rand, i int) error {
	part, base := p.parts[i], int64(i)*partLen
	ways := []func(*rand.Rand, []byte, int64) error{p.write, p.write, p.frame, p.gather}
	if err := ways[r.IntN(len(ways))](r, part, base); err != nil {
		return err
	}
	got := make([]byte, 1+r.IntN(partLen))
	at := r.IntN(partLen - len(got) + 1)
	if _, err := p.s.ReadAt(got, base+int64(at)); err != nil || !bytes.Equal(got, part[at:at+len(got)]) {
		return fmt.Errorf("read at %#x: wrong bytes, %v", base+int64(at), err)
	}
	return nil
}

func (p *party) write(r *rand.Rand, part []byte, base int64) error {
	off, n := r.IntN(partLen), 1+r.IntN(9000)
	mine := part[off:min(off+n, partLen)]
	if r.IntN(4) == 0 {
		clear(mine)
		return p.s.Punch(base+int64(off), int64(len(mine)))
	}
	copy(mine, compactFrame(r, len(mine)))
	_, err := p.s.WriteAt(mine, base+int64(off))
	return err
}

func (p *party) frame(r *rand.Rand, part []byte, base int64) error {
	n := r.IntN(partLen / MinFrameSize)
	mine := part[n*MinFrameSize:][:MinFrameSize]
	copy(mine, compactFrame(r, MinFrameSize))
	return p.s.WriteFrame(base/MinFrameSize+int64(n), mine)
}

func (p *party) gather(r *rand.Rand, part []byte, base int64) error {
	w := p.s.NewFrameWriter()
	defer w.Close()
	n := r.IntN(partLen / MinFrameSize)
	for end := min(n+1+r.IntN(20), partLen/MinFrameSize); n < end; n++ {
		mine := part[n*MinFrameSize:][:MinFrameSize]
		copy(mine, compactFrame(r, MinFrameSize))
		if err := w.Add(base/MinFrameSize+int64(n), mine); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (p *party) commit(r *rand.Rand) error {
	if r.IntN(2) == 0 {
		return p.s.Commit()
	}
	return p.s.Sync()
}

// resize moves the end, and writes there.
func (p *party) resize(r *rand.Rand) error {
	end := int64(len(p.parts)) * partLen
	if r.IntN(3) == 0 {
		_, err := p.s.WriteAt(compactFrame(r, 3000), end+r.Int64N(1<<30))
		return err
	}
	return p.s.Truncate(end + r.Int64N(1<<uint(r.IntN(40))))
}

func (p *party) compact(r *rand.Rand) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	left := r.IntN(8)
	o := CompactOptions{Progress: func(int64, int64) {
		if left--; left == 0 {
			cancel()
		}
	}}
	if r.IntN(2) == 0 {
		o.Codec = codec.Raw + codec.ID(r.IntN(3))
	}
	err := newCompactor(p.s, ctx, o, 5*MinFrameSize).run()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (p *party) copy(*rand.Rand) error {
	f, err := os.Create(p.path + ".copy")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := Copy(context.Background(), f, p.s, nil); err != nil {
		return err
	}
	return p.sound(f.Name())
}

func (p *party) read(*rand.Rand) error { return p.sound(p.path) }

// sound opens the store at path, and reads and checks it twice.
func (p *party) sound(path string) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	var first []byte
	for range 2 {
		got := make([]byte, len(p.parts)*partLen)
		if _, err := s.ReadAt(got, 0); err != nil && err != io.EOF {
			return err
		}
		if first != nil && !bytes.Equal(got, first) {
			return fmt.Errorf("generation %d changes", s.Generation())
		}
		first = got
		var damage error
		err := s.Check(context.Background(), func(d *DamageError) { damage = d }, nil)
		if err = firstError(err, damage); err != nil {
			return err
		}
	}
	return nil
}

// look asks the writer for all that it knows.
func (p *party) look(r *rand.Rand) error {
	_, info := p.s.Info()
	_, data := p.s.SeekData(r.Int64N(2 * partLen))
	_, hole := p.s.SeekHole(r.Int64N(2 * partLen))
	for _, err := range []error{info, data, hole} {
		if err != nil && err != io.EOF {
			return err
		}
	}
	var damage error
	err := p.s.Check(context.Background(), func(d *DamageError) { damage = d }, nil)
	return firstError(err, damage, p.s.Dump(io.Discard))
}
