package uffdmap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// A program that drops pages of its own mapping loses what it wrote to them since
// the last Sync, and nothing else: reads, writes, evictions and syncs find what the
// store has there, and what is written afterwards reaches the store.
func TestProgramDropsPages(t *testing.T) {
	for _, mask := range []string{"", "wp_async"} {
		for _, advice := range []int{unix.MADV_DONTNEED, unix.MADV_FREE} {
			for _, limit := range []int64{0, 512 << 10} {
				t.Run(fmt.Sprintf("mask %q advice %d limit %d", mask, advice, limit), func(t *testing.T) {
					t.Setenv("LAZYFS_MASK_UFFD", mask)
					testDropped(t, advice, limit)
				})
			}
		}
	}
}

func testDropped(t *testing.T, advice int, limit int64) {
	const frame, pages = 16 << 10, 259
	rnd := newRand(t)
	m := &droppedModel{t: t, rnd: rnd, may: make([][][]byte, pages), since: make([][][]byte, pages)}
	data := plainBytes(rnd, pages*store.PageSize-1000)
	m.path = newStore(t, data, frame)
	m.v = openView(t, m.path, Options{Writable: true, MemoryLimit: limit})
	for p := range m.may {
		m.may[p] = [][]byte{data[p*store.PageSize : min((p+1)*store.PageSize, len(data))]}
		m.since[p] = m.may[p]
	}
	// Without a limit only a Sync writes to the store, and a page that is dropped
	// is as it was then. What is only free the kernel may keep.
	m.exact = limit == 0 && advice == unix.MADV_DONTNEED
	for range 500 {
		first := rnd.IntN(pages)
		some := 1 + rnd.IntN(min(10, pages-first))
		switch rnd.IntN(20) {
		case 0:
			m.sync()
		case 1, 2, 3, 4, 5, 6:
			m.drop(advice, first, some)
		case 7, 8, 9, 10, 11, 12, 13:
			m.write(first, some)
		default:
			m.read(first, some)
		}
	}
	m.sync()
	must(t, "close", m.v.Close())
}

// A droppedModel knows what each page of a mapping may hold.
type droppedModel struct {
	t     *testing.T
	rnd   *rand.Rand
	path  string
	v     *Viewer
	exact bool
	may   [][][]byte // by page: what it may hold now
	since [][][]byte // by page: what it may have held since the last Sync, that first
}

func (m *droppedModel) drop(advice, first, pages int) {
	b := m.v.mem.b[first*store.PageSize : (first+pages)*store.PageSize]
	must(m.t, "madvise", unix.Madvise(b, advice))
	if advice == unix.MADV_FREE {
		must(m.t, "take what is free", unix.Madvise(b, unix.MADV_PAGEOUT))
	}
	for p := first; p < first+pages; p++ {
		if m.may[p] = m.since[p]; m.exact {
			m.may[p] = m.since[p][:1]
		}
	}
}

func (m *droppedModel) write(first, pages int) {
	from := first*store.PageSize + m.rnd.IntN(len(m.since[first][0]))
	end := (first+pages-1)*store.PageSize + len(m.since[first+pages-1][0])
	p := plainBytes(m.rnd, end-from)
	_, err := m.v.WriteAt(p, int64(from))
	must(m.t, "write", err)
	for n := first; n < first+pages; n++ {
		off := n * store.PageSize
		var after [][]byte
		for _, old := range m.may[n] {
			page := bytes.Clone(old)
			copy(page[max(from-off, 0):], p[max(off-from, 0):])
			after = append(after, page)
		}
		m.may[n], m.since[n] = after, slices.Concat(m.since[n], after)
	}
}

func (m *droppedModel) read(first, pages int) {
	for n := first; n < first+pages; n++ {
		got := make([]byte, len(m.since[n][0]))
		_, err := m.v.ReadAt(got, int64(n*store.PageSize))
		must(m.t, "read", err)
		if !slices.ContainsFunc(m.may[n], func(b []byte) bool { return bytes.Equal(b, got) }) {
			m.t.Fatalf("page %d: wrong bytes, none of the %d that it may hold", n, len(m.may[n]))
		}
		m.may[n] = [][]byte{got}
	}
}

// sync also finds out what was synced, which must be what is read.
func (m *droppedModel) sync() {
	must(m.t, "sync", m.v.Sync())
	m.read(0, len(m.may))
	copy(m.since, m.may)
	now := make([][]byte, len(m.may))
	for n := range now {
		now[n] = m.may[n][0]
	}
	same(m.t, "stored", stored(m.t, m.path), slices.Concat(now...))
}

// Bytes of a released span whose frame was evicted trap for WriteAt as for whoever reads
// them, and their frame is as it was.
func TestWriteOfReleased(t *testing.T) {
	const frame = 16 << 10
	want := plainBytes(newRand(t), 2*frame)
	v := openView(t, newStore(t, want, frame), Options{Writable: true, MemoryLimit: frame})
	s, err := v.View(0, frame)
	must(t, "view", err)
	stale := s.Bytes()
	s.Release()
	write := func(off int64) (traps bool) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() { traps = recover() != nil }()
		_, err := v.WriteAt(stale[:100], off)
		must(t, "write", err)
		return false
	}
	if !write(frame) {
		t.Error("bytes that were evicted are written")
	}
	s, err = v.View(0, frame)
	must(t, "view again", err)
	defer s.Release()
	same(t, "view again", s.Bytes(), want[:frame])
}

// Bytes of a released span trap for WriteAt also where their frame is on its way into
// memory again: whoever brings that in gets it.
func TestWriteOfReleasedAgain(t *testing.T) {
	const frame = 16 << 10
	want := bytes.Repeat([]byte("lazy"), frame)
	v := openView(t, newStore(t, want, frame), Options{Writable: true, MemoryLimit: 2 * frame})
	view := func(off, n int64) (released []byte) {
		s, err := v.View(off, n)
		must(t, "view", err)
		defer s.Release()
		return s.Bytes()
	}
	stale := view(0, frame)
	view(frame, 2*frame)
	gated := gatedSource{v.src, make(chan int64, 10), make(chan struct{})}
	v.src = gated
	viewed, wrote := make(chan error, 1), make(chan bool, 1)
	go func() {
		s, err := v.View(0, frame)
		if err == nil {
			s.Release()
		}
		viewed <- err
	}()
	<-gated.asked
	go func() {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() { wrote <- recover() == nil }()
		v.WriteAt(stale[:100], 2*frame)
	}()
	select {
	case n := <-gated.asked:
		t.Errorf("the write brings in frame %d", n)
		close(gated.gate)
	case works := <-wrote:
		if works {
			t.Error("bytes that are absent are written")
		}
		close(gated.gate)
	}
	must(t, "view", <-viewed)
}

// Memory that a program has made unusable, or put its own in the place of, is an
// error of the Sync that needs it, and the store keeps what it has.
func TestProgramTakesPages(t *testing.T) {
	const frame = 16 << 10
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED
	for what, take := range map[string]func(v *Viewer, p []byte) error{
		"mprotect": func(v *Viewer, p []byte) error { return unix.Mprotect(p, unix.PROT_NONE) },
		"mmap": func(v *Viewer, p []byte) error {
			_, err := unix.MmapPtr(-1, 0, ptr(p, 0), uintptr(len(p)), unix.PROT_READ|unix.PROT_WRITE, flags)
			return err
		},
	} {
		for _, written := range []int64{0, 2 * store.PageSize} { // In what is taken, and beside it.
			want := plainBytes(newRand(t), 8*frame)
			path := newStore(t, want, frame)
			v := openView(t, path, Options{Writable: true})
			_, err := v.WriteAt([]byte("new"), 3*frame+written)
			must(t, "write", err)
			must(t, what, take(v, v.mem.b[3*frame:3*frame+store.PageSize]))
			if err := v.Sync(); err == nil {
				t.Errorf("%s, %d: sync works", what, written)
			}
			if err := v.Close(); err == nil {
				t.Errorf("%s, %d: close works", what, written)
			}
			same(t, what, stored(t, path), want)
		}
	}
}

// While a dropped page is brought back, no other is: it could be written, synced and dropped
// again meanwhile, and then be as it was before that.
func TestRestoresAreAlone(t *testing.T) {
	want := bytes.Repeat([]byte("lazy"), 16<<10/4)
	v := openView(t, newStore(t, want, 16<<10), Options{Writable: true})
	s, err := v.View(0, v.Size())
	must(t, "view", err)
	defer s.Release()
	must(t, "drop a page", unix.Madvise(s.Bytes()[:store.PageSize], unix.MADV_DONTNEED))
	reads := 0
	v.src = interruptedSource{v.src, func() {
		reads++
		if v.restoring.TryLock() {
			v.restoring.Unlock()
			t.Error("another restore can begin")
		}
	}}
	got := make([]byte, len(want))
	_, err = v.ReadAt(got, 0)
	must(t, "read", err)
	same(t, "read", got, want)
	if reads != 1 {
		t.Errorf("the store was read %d times, want once", reads)
	}
}

// Dropped pages of a frame of zeros come back as zeros, whatever was decoded before.
func TestDroppedZeros(t *testing.T) {
	const frame = 16 << 10
	want := content(2*frame, 9)
	clear(want[:frame])
	v := openView(t, newStore(t, want, frame), Options{Writable: true})
	s, err := v.View(0, v.Size())
	must(t, "view", err)
	defer s.Release()
	must(t, "drop a page", unix.Madvise(s.Bytes()[:store.PageSize], unix.MADV_DONTNEED))
	used, err := v.scratch.get()
	must(t, "get memory", err)
	for i := range used.b {
		used.b[i] = 1
	}
	v.scratch.put(used)
	got := make([]byte, len(want))
	_, err = v.ReadAt(got, 0)
	must(t, "read", err)
	same(t, "read", got, want)
}
