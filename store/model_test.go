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
	"testing"

	"lazyfs/codec"
)

// Whatever sequence of reads, writes, truncations, punches, commits, checks,
// compactions and reopenings a store goes through, it reads back as a plain file
// would; readers go on seeing it as it was when they opened it, and copies and what
// Repair makes of it hold what was committed.
func TestModel(t *testing.T) {
	for _, id := range []codec.ID{codec.Raw, codec.LZ4, codec.Zstd, codec.Gzip} {
		for _, frameSize := range []int{4 << 10, 16 << 10, 1 << 20} {
			t.Run(fmt.Sprintf("%v-%d", id, frameSize), func(t *testing.T) {
				t.Parallel()
				maker := stepMaker{r: rand.New(rand.NewPCG(randomSeed(t), 0)), frame: int64(frameSize), frames: 40,
					weights: []weight{{"write", 45}, {"frames", 6}, {"read", 20}, {"truncate", 7}, {"punch", 8}, {"sync", 6}, {"commit", 4},
						{"checkpoint", 1}, {"close", 3}, {"kill", 1}, {"lose", 1}, {"compact", 1}, {"cancel", 2}, {"whole", 3}, {"reader", 2},
						{"copy", 1}, {"repair", 1}}}
				if maker.r.IntN(2) == 0 {
					maker.far = []int64{1 << 23, 1 << 33, MaxSize - 50*maker.frame}
				}
				o := CreateOptions{Codec: id, FrameSize: frameSize, DirtyBytes: 8 * int64(frameSize)}
				steps := maker.steps(modelSteps(frameSize))
				fault := modelFault(t, o, steps)
				if fault == "" {
					return
				}
				steps = shorten(steps, func(some []step) bool {
					less := modelFault(t, o, some)
					if less != "" {
						fault = less
					}
					return less != ""
				})
				t.Errorf("%s\nsteps: %v", fault, steps)
			})
		}
	}
}

// modelSteps is how long a sequence is: large frames take their time.
func modelSteps(frameSize int) int {
	if frameSize < 1<<20 {
		return someRuns(400, 400, 4000)
	}
	return someRuns(20, 100, 4000)
}

// modelFault does the steps to a new store and says what is wrong, "" when nothing is.
func modelFault(t *testing.T, o CreateOptions, steps []step) string {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	must(t, err)
	m := &model{path: filepath.Join(dir, "m.lazy"), want: newPlainFile(nil), held: newPlainFile(nil)}
	m.o = Options{Writable: true, DirtyBytes: o.DirtyBytes, Cache: NewCache(4 << 20)}
	o.Cache = m.o.Cache
	m.s, err = Create(m.path, o)
	must(t, err)
	defer func() {
		m.s.Discard()
		for _, r := range m.readers {
			r.s.Close()
		}
		os.RemoveAll(dir)
	}()
	for i, st := range steps {
		err := m.do(st)
		if err == nil {
			err = m.s.spaceFault()
		}
		if err != nil {
			return fmt.Sprintf("step %d, %v: %v", i, st, err)
		}
	}
	return ""
}

// model is a store beside what it should hold.
type model struct {
	path    string
	s       *Store
	want    *plainFile
	held    *plainFile // what the last commit holds
	o       Options
	readers []modelReader // the oldest first
}

// A modelReader sees one generation.
type modelReader struct {
	s    *Store
	want *plainFile
}

func (m *model) do(st step) error {
	switch st.what {
	case "read":
		return m.read(st.off, st.n)
	case "whole":
		return m.whole()
	case "reader":
		return m.reader()
	case "copy":
		return m.copies()
	case "repair":
		return m.repair()
	case "lose":
		m.want = m.held.clone()
		return m.reopen(m.s.Discard(), st)
	}
	err := m.change(st)
	if err == nil && st.commits() {
		m.held = m.want.clone()
	}
	return err
}

func (m *model) change(st step) error {
	switch st.what {
	case "close":
		return m.reopen(m.s.Close(), st)
	case "kill":
		return m.reopen(firstError(m.s.Commit(), m.s.Discard()), st)
	case "cancel":
		return m.cancel(st)
	}
	return st.do(m.s, m.want)
}

// reopen opens the store for frames of the step's codec.
func (m *model) reopen(closed error, st step) error {
	if closed != nil {
		return closed
	}
	o := m.o
	o.Codec, o.Level = st.codec, st.level()
	s, err := Open(m.path, o)
	if err == nil {
		m.s = s
	}
	return err
}

// cancel compacts the store, and breaks that off now and then.
func (m *model) cancel(st step) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	left := st.seed % 6
	o := CompactOptions{Codec: st.codec, Level: st.level(), Progress: func(int64, int64) {
		if left--; left == 0 {
			cancel()
		}
	}}
	err := newCompactor(m.s, ctx, o, 2*int64(m.s.FrameSize())).run()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// copies copies what the writer and the oldest reader see.
func (m *model) copies() error {
	for _, from := range append([]modelReader{{m.s, m.held}}, m.readers[:min(1, len(m.readers))]...) {
		err := m.another(func(f *os.File) error { return Copy(context.Background(), f, from.s, nil) }, from.want)
		if err != nil {
			return err
		}
	}
	return nil
}

// repair repairs the store as a kill would leave it, which loses nothing.
func (m *model) repair() error {
	image, err := os.ReadFile(m.path)
	if err != nil {
		return err
	}
	src, err := os.Create(m.path + ".killed")
	if err != nil {
		return err
	}
	defer src.Close()
	if _, err := src.Write(image); err != nil {
		return err
	}
	return m.another(func(f *os.File) error {
		var lost []Loss
		_, err := Repair(context.Background(), f, src, func(l Loss) { lost = append(lost, l) }, nil)
		if err == nil && len(lost) > 0 {
			err = fmt.Errorf("lost: %+v", lost)
		}
		return err
	}, m.held)
}

// another has make make a store, which is to hold want.
func (m *model) another(make func(f *os.File) error, want *plainFile) error {
	f, err := os.Create(m.path + ".other")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := make(f); err != nil {
		return err
	}
	s, err := Open(f.Name(), Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	return soundAs(s, want)
}

// soundAs says how s differs from want, or what is damaged in it.
func soundAs(s *Store, want *plainFile) error {
	if diff := want.diff(s); diff != "" {
		return errors.New(diff)
	}
	var damage error
	err := s.Check(context.Background(), func(d *DamageError) { damage = d }, nil)
	return firstError(err, damage)
}

func (m *model) read(off, n int64) error {
	p, want := make([]byte, n), make([]byte, n)
	got, err := m.s.ReadAt(p, off)
	want = want[:max(0, min(n, m.want.size-off))]
	m.want.read(want, off)
	if err != nil && err != io.EOF || (err == io.EOF) != (int64(len(want)) < n) {
		return fmt.Errorf("of %d bytes: %w", m.want.size, err)
	}
	if !bytes.Equal(p[:got], want) {
		i := 0
		for i < got && p[i] == want[i] {
			i++
		}
		return fmt.Errorf("%d bytes of %d, wrong from %d on", got, m.want.size, off+int64(i))
	}
	return nil
}

// reader opens the store once more. The oldest of three readers is closed.
func (m *model) reader() error {
	if err := m.s.Commit(); err != nil {
		return err
	}
	m.held = m.want.clone()
	r, err := Open(m.path, Options{})
	if err != nil {
		return err
	}
	m.readers = append(m.readers, modelReader{r, m.want.clone()})
	if len(m.readers) <= 3 {
		return nil
	}
	old := m.readers[0]
	m.readers = m.readers[1:]
	return old.s.Close()
}

// whole reads and checks everything, through the writer and through readers.
func (m *model) whole() error {
	if err := m.reader(); err != nil {
		return err
	}
	for i, r := range append([]modelReader{{m.s, m.want}}, m.readers...) {
		if err := soundAs(r.s, r.want); err != nil {
			return fmt.Errorf("reader %d of generation %d: %w", i, r.s.Generation(), err)
		}
	}
	return m.probe()
}

// probe compares what Probe says with what is there.
func (m *model) probe() error {
	f, err := os.Open(m.path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := Probe(f)
	if err == nil && (sum.Size != m.want.size || sum.Generation != m.s.Generation()) {
		err = fmt.Errorf("probe says %+v, want size %d, generation %d", sum, m.want.size, m.s.Generation())
	}
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	var begin [ProbeLen]byte
	if _, err := f.ReadAt(begin[:], 0); err != nil {
		return err
	}
	if quick, all, err := ProbeBytes(begin[:], fi.Size()); err != nil || all && quick != sum {
		return fmt.Errorf("probe of the first block says %+v, %t, %v, want %+v", quick, all, err, sum)
	}
	return nil
}
