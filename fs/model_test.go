package fs_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A modelFile is a file of the mount beside a plain model of its content.
type modelFile struct {
	t       *testing.T
	r       *rand.Rand
	spec    mountSpec
	d       *daemon
	f       *os.File // open for reading and writing
	app     *os.File // the same file, open for appending
	content []byte
	max     int // bytes
}

// After any sequence of writes, appends through another handle, truncations, punched
// and zeroed ranges, writes through a mapping, fsyncs, reopenings and remounts, a
// file reads as the same sequence leaves an array of bytes.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LAZYFS_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	steps := 1500
	if testing.Short() {
		steps = 400
	}
	if os.Getenv("LAZYFS_LONG") != "" {
		steps = 50000
	}
	for _, frame := range []int{4 << 10, 16 << 10, 128 << 10} {
		t.Run(fmt.Sprintf("frame=%d", frame), func(t *testing.T) {
			t.Logf("LAZYFS_SEED=%d", seed)
			m := &modelFile{t: t, r: rand.New(rand.NewPCG(seed, uint64(frame))), max: 500_000}
			m.spec = mountSpec{Source: t.TempDir(), Dir: t.TempDir(), Writable: true, FrameSize: frame, SyncAfter: 50 * time.Millisecond}
			m.mount()
			for step := range steps {
				what := m.step()
				if t.Failed() {
					t.Fatalf("step %d: %s", step, what)
				}
			}
			m.close()
			m.d.umount()
			if got := unpack(t, filepath.Join(m.spec.Source, "file.lazy")); !bytes.Equal(got, m.content) {
				t.Errorf("the store differs from the model at %#x", firstDiff(got, m.content))
			}
		})
	}
}

func (m *modelFile) mount() {
	m.d = start(m.t, m.spec)
	m.open()
}

func (m *modelFile) open() {
	var err error
	if m.f, err = os.OpenFile(m.d.path("file"), os.O_RDWR|os.O_CREATE, 0o644); err == nil {
		m.app, err = os.OpenFile(m.d.path("file"), os.O_WRONLY|os.O_APPEND, 0)
	}
	m.must(err)
}

func (m *modelFile) close() {
	m.must(m.f.Close())
	m.must(m.app.Close())
}

func (m *modelFile) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// span is a random range that begins inside of the file or not far behind.
func (m *modelFile) span() (off, n int) {
	off = m.r.IntN(len(m.content) + 20_000)
	n = 1 + m.r.IntN([]int{10, 5000, 100_000}[m.r.IntN(3)])
	if m.r.IntN(3) == 0 {
		off, n = off&^4095, (n+4095)&^4095
	}
	return min(off, m.max-1), min(n, m.max-min(off, m.max-1))
}

func (m *modelFile) data(n int) []byte {
	if m.r.IntN(4) == 0 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(m.r.Uint32())
		}
		return b
	}
	return text(m.r.Uint64(), n)
}

func (m *modelFile) put(off int, data []byte) {
	m.resize(max(len(m.content), off+len(data)))
	copy(m.content[off:], data)
}

func (m *modelFile) resize(n int) {
	if n <= len(m.content) {
		m.content = m.content[:n:n]
		return
	}
	m.content = append(m.content, make([]byte, n-len(m.content))...)
}

func (m *modelFile) zero(off, n int) {
	if off < len(m.content) {
		clear(m.content[off:min(off+n, len(m.content))])
	}
}

// step does one random thing to both and returns what it was.
func (m *modelFile) step() string {
	off, n := m.span()
	what := fmt.Sprintf("[%#x, %#x)", off, off+n)
	switch k := m.r.IntN(100); {
	case k < 30:
		data := m.data(n)
		_, err := m.f.WriteAt(data, int64(off))
		m.must(err)
		m.put(off, data)
		return "write " + what
	case k < 38:
		data := m.data(min(n, m.max-len(m.content)))
		_, err := m.app.Write(data)
		m.must(err)
		m.put(len(m.content), data)
		return fmt.Sprintf("append %d", len(data))
	case k < 44:
		m.must(m.f.Truncate(int64(off)))
		m.resize(off)
		return fmt.Sprintf("truncate %#x", off)
	case k < 50:
		m.must(unix.Fallocate(int(m.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
		m.zero(off, n)
		return "punch " + what
	case k < 55:
		m.must(unix.Fallocate(int(m.f.Fd()), unix.FALLOC_FL_ZERO_RANGE, int64(off), int64(n)))
		m.resize(max(len(m.content), off+n))
		m.zero(off, n)
		return "zero " + what
	case k < 58:
		m.must(unix.Fallocate(int(m.f.Fd()), 0, int64(off), int64(n)))
		m.resize(max(len(m.content), off+n))
		return "allocate " + what
	case k < 66:
		return m.mapped(off, n)
	case k < 70:
		m.must(m.f.Sync())
		return "fsync"
	case k < 74:
		m.close()
		m.open()
		return "reopen"
	case k < 75:
		m.close()
		m.d.umount()
		m.mount()
		return "remount"
	default:
		m.compare(off, n)
		return "read " + what
	}
}

// mapped writes and reads through a shared mapping.
func (m *modelFile) mapped(off, n int) string {
	n = min(n, len(m.content)-off)
	if n <= 0 {
		return "map nothing"
	}
	mem, err := unix.Mmap(int(m.f.Fd()), 0, len(m.content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	m.must(err)
	if !bytes.Equal(mem[off:off+n], m.content[off:off+n]) {
		m.t.Errorf("mapping differs at %#x", off+firstDiff(mem[off:off+n], m.content[off:off+n]))
	}
	data := m.data(n)
	copy(mem[off:], data)
	m.put(off, data)
	if m.r.IntN(2) == 0 {
		m.must(unix.Msync(mem, unix.MS_SYNC))
	}
	m.must(unix.Munmap(mem))
	return fmt.Sprintf("map [%#x, %#x)", off, off+n)
}

// compare reads a range by one of several ways, and the size.
func (m *modelFile) compare(off, n int) {
	var f io.ReaderAt = m.f
	if m.r.IntN(4) == 0 {
		again, err := os.Open(m.d.path("file"))
		m.must(err)
		defer again.Close()
		f = again
	}
	got := make([]byte, n)
	read, err := f.ReadAt(got, int64(off))
	if err != nil && err != io.EOF {
		m.t.Errorf("read: %v", err)
		return
	}
	want := m.content[min(off, len(m.content)):min(off+n, len(m.content))]
	if !bytes.Equal(got[:read], want) {
		m.t.Errorf("read %d of %d bytes, they differ at %#x", read, len(want), off+firstDiff(got[:read], want))
	}
	if st, err := m.f.Stat(); err != nil || st.Size() != int64(len(m.content)) {
		m.t.Errorf("size %d (%v), want %d", st.Size(), err, len(m.content))
	}
}
