package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"lazyfs/codec"
)

// Whatever sequence of reads, writes, truncations, punches, commits, checks,
// compactions and reopenings a store goes through, it reads back as a plain file would.
func TestModel(t *testing.T) {
	for _, id := range []codec.ID{codec.Raw, codec.LZ4, codec.Zstd, codec.Gzip} {
		for _, frameSize := range []int{4 << 10, 16 << 10, 1 << 20} {
			t.Run(fmt.Sprintf("%v-%d", id, frameSize), func(t *testing.T) {
				t.Parallel()
				seed := rand.Uint64()
				if v := os.Getenv("LAZYFS_SEED"); v != "" {
					fmt.Sscan(v, &seed)
				}
				t.Logf("seed %d", seed)
				m := newModel(t, rand.New(rand.NewPCG(seed, 0)), CreateOptions{
					Codec: id, FrameSize: frameSize, DirtyBytes: 8 * int64(frameSize)})
				for range modelSteps(frameSize) {
					m.step()
					if err := m.s.spaceFault(); err != nil {
						m.fail("%v", err)
					}
				}
			})
		}
	}
}

// modelSteps is how long a sequence is: large frames take their time.
func modelSteps(frameSize int) int {
	switch {
	case os.Getenv("LAZYFS_LONG") != "":
		return 4000
	case frameSize < 1<<20:
		return 400
	case testing.Short():
		return 20
	}
	return 100
}

// model is a store beside the bytes that it should have.
type model struct {
	t    *testing.T
	r    *rand.Rand
	path string
	s    *Store
	want []byte
	o    Options
	log  []string
}

func newModel(t *testing.T, r *rand.Rand, o CreateOptions) *model {
	m := &model{t: t, r: r, path: filepath.Join(t.TempDir(), "m.lazy")}
	m.o = Options{Writable: true, DirtyBytes: o.DirtyBytes, Cache: NewCache(4 << 20)}
	o.Cache = m.o.Cache
	s, err := Create(m.path, o)
	if err != nil {
		t.Fatal(err)
	}
	m.s = s
	t.Cleanup(func() { m.s.Discard() })
	return m
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	for _, l := range m.log[max(0, len(m.log)-40):] {
		m.t.Log(l)
	}
	m.t.Fatalf(format, args...)
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) step() {
	span := 40 * m.s.FrameSize()
	if m.r.IntN(4) == 0 {
		span = 3000
	}
	off := m.r.IntN(span)
	n := 1 + m.r.IntN([]int{10, 3000, 3 * m.s.FrameSize()}[m.r.IntN(3)])
	switch k := m.r.IntN(100); {
	case k < 45:
		m.write(off, n)
	case k < 65:
		m.read(off, n)
	case k < 72:
		m.truncate(m.r.IntN(span))
	case k < 80:
		m.note("punch %d %d", off, n)
		m.must(m.s.Punch(int64(off), int64(n)))
		if off < len(m.want) {
			clear(m.want[off:min(len(m.want), off+n)])
		}
	case k < 86:
		m.note("sync")
		m.must(m.s.Sync())
	case k < 90:
		m.note("commit")
		m.must(m.s.Commit())
	case k < 94:
		m.reopen()
	case k < 95:
		o := CompactOptions{Codec: codec.ID(m.r.IntN(5))} // 0: as they are.
		m.note("compact %v", o.Codec)
		c := newCompactor(m.s, context.Background(), o, int64(m.r.IntN(100_000)))
		c.slack = 0
		m.must(c.run())
	default:
		m.whole()
	}
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.fail("%v", err)
	}
}

func (m *model) write(off, n int) {
	p := make([]byte, n)
	switch m.r.IntN(4) {
	case 0: // zeros
	case 1: // noise
		for i := range p {
			p[i] = byte(m.r.Uint32())
		}
	default:
		for i := range p {
			p[i] = byte(m.r.IntN(3) + 'a')
		}
	}
	m.note("write %d %d", off, n)
	got, err := m.s.WriteAt(p, int64(off))
	m.must(err)
	if got != n {
		m.fail("WriteAt returned %d, want %d", got, n)
	}
	if off+n > len(m.want) {
		m.want = append(m.want, make([]byte, off+n-len(m.want))...)
	}
	copy(m.want[off:], p)
}

func (m *model) read(off, n int) {
	p := make([]byte, n)
	got, err := m.s.ReadAt(p, int64(off))
	want := m.want[min(off, len(m.want)):min(off+n, len(m.want))]
	if err != nil && err != io.EOF || (err == io.EOF) != (len(want) < n) {
		m.fail("read %d at %d of %d: %v", n, off, len(m.want), err)
	}
	if !bytes.Equal(p[:got], want) {
		i := 0
		for p[i] == want[i] {
			i++
		}
		m.fail("read %d at %d of %d: wrong bytes from %d on: %x, want %x", n, off, len(m.want), off+i,
			p[i:min(i+16, got)], want[i:min(i+16, got)])
	}
}

func (m *model) truncate(size int) {
	m.note("truncate %d", size)
	m.must(m.s.Truncate(int64(size)))
	if size <= len(m.want) {
		m.want = m.want[:size:size]
	} else {
		m.want = append(m.want, make([]byte, size-len(m.want))...)
	}
}

func (m *model) reopen() {
	m.note("reopen")
	if m.r.IntN(3) > 0 {
		m.must(m.s.Close())
	} else {
		m.must(m.s.Commit())
		m.must(m.s.Discard())
	}
	s, err := Open(m.path, m.o)
	m.must(err)
	m.s = s
}

// whole reads everything, through the writer and through a reader, and checks.
func (m *model) whole() {
	m.note("whole")
	if m.s.Size() != int64(len(m.want)) {
		m.fail("size is %d, want %d", m.s.Size(), len(m.want))
	}
	if len(m.want) > 0 {
		m.read(0, len(m.want))
	}
	m.must(m.s.Commit())
	r, err := Open(m.path, Options{})
	m.must(err)
	defer r.Close()
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	m.must(err)
	if !bytes.Equal(got, m.want) {
		m.fail("a reader sees other bytes")
	}
	m.must(r.Check(context.Background(), func(d *DamageError) { m.fail("%v", d) }, nil))
	m.must(m.s.Check(context.Background(), func(d *DamageError) { m.fail("%v", d) }, nil))
	f, err := os.Open(m.path)
	m.must(err)
	defer f.Close()
	sum, err := Probe(f)
	m.must(err)
	if sum.Size != int64(len(m.want)) || sum.Generation != r.Generation() {
		m.fail("probe says %+v, want size %d, generation %d", sum, len(m.want), r.Generation())
	}
}
