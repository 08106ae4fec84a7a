package store

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A hookedDisk calls synced after each Datasync.
type hookedDisk struct {
	disk
	synced func()
}

func (d *hookedDisk) Datasync() error {
	err := d.disk.Datasync()
	d.synced()
	return err
}

// roomyStore is a store of noise on a disk of 16 MiB, of which 7 MiB in the
// middle were just punched.
func roomyStore(t *testing.T) (s *Store, d *hookedDisk, want []byte, dir string) {
	dir = smallDisk(t, "16m")
	f, err := os.Create(filepath.Join(dir, "s.lazy"))
	must(t, err)
	d = &hookedDisk{fileDisk{f}, func() {}}
	s, err = createDisk(d, f, CreateOptions{FrameSize: 64 << 10})
	must(t, err)
	t.Cleanup(func() { s.Discard() })
	want = noise(10<<20, 1)
	_, err = s.WriteAt(want, 0)
	must(t, err)
	must(t, s.Sync())
	must(t, s.Punch(1<<20, 7<<20))
	clear(want[1<<20 : 8<<20])
	return s, d, want, dir
}

// punchedStore is a roomyStore whose free space was given back to the disk.
func punchedStore(t *testing.T) (s *Store, want []byte, dir string) {
	s, _, want, dir = roomyStore(t)
	must(t, s.Sync())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.punchGaps(true, 0)
	return s, want, dir
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// fillDisk leaves no room in the file system of dir.
func fillDisk(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "other"))
	must(t, err)
	defer f.Close()
	for n := 1 << 20; n > 0; {
		if _, err := f.Write(make([]byte, n)); isNoSpace(err) {
			n /= 2
		} else {
			must(t, err)
		}
	}
}

// A write that was accepted has its room though the disk fills up before Sync, and
// though free space that was given back lies in front of what is reserved.
func TestReservedBesidePunched(t *testing.T) {
	s, want, dir := punchedStore(t)
	part := noise(900<<10, 2)
	_, err := s.WriteAt(part, 512<<10)
	must(t, err)
	copy(want[512<<10:], part)
	fillDisk(t, dir)
	must(t, s.Sync())
	same(t, s, want)
}

// A fillingDisk fills up just before the first write.
type fillingDisk struct {
	disk
	once sync.Once
	fill func()
}

func (d *fillingDisk) WriteAt(b []byte, off int64) (int, error) {
	d.once.Do(d.fill)
	return d.disk.WriteAt(b, off)
}

// The same for frames that are gathered to be written together.
func TestReservedForGathered(t *testing.T) {
	s, want, dir := punchedStore(t)
	must(t, s.ExpectWrites())
	s.d = &fillingDisk{disk: s.d, fill: func() { fillDisk(t, dir) }}
	w := s.NewFrameWriter()
	defer w.Close()
	part := noise(3<<16, 2)
	for n := range int64(3) {
		must(t, w.Add(16+n, part[n<<16:(n+1)<<16]))
	}
	copy(want[1<<20:], part)
	must(t, w.Flush())
	must(t, s.Sync())
	must(t, s.spaceFault())
	same(t, s, want)
}

// What is reserved for a write that comes while a commit ends is kept when that
// commit gives space back.
func TestReservedBesideCut(t *testing.T) {
	s, d, want, dir := roomyStore(t)
	// The end of the store is free after this commit, and cut off.
	must(t, s.Truncate(1<<20))
	want = want[:1<<20]
	part := noise(300<<10, 3)
	d.synced = func() {
		d.synced = func() {}
		_, err := s.WriteAt(part, 512<<10)
		must(t, err)
	}
	must(t, s.Sync())
	copy(want[512<<10:], part)
	fillDisk(t, dir)
	must(t, s.Sync())
	same(t, s, want)
}

// Space that freeing adds to the end of the file counts as reserved only where it
// was not given back.
func TestReservedBehindPunchedEnd(t *testing.T) {
	s, _, _, _ := roomyStore(t)
	const n = 64 << 10
	s.mu.Lock()
	defer s.mu.Unlock()
	s.punchGaps(true, 0)
	middle, last := s.space.grow(n), s.space.grow(n)
	s.blocks.wrote(extent{middle, 2 * n})
	s.reserved, s.booked = last+3*n, 1
	defer func() { s.booked = 0 }()
	s.freeNow(extent{middle, n})
	s.punchGaps(true, 0)
	s.freeNow(extent{last, n})
	if s.space.end() != middle || s.covered(4*n) || !s.tight {
		t.Errorf("%#x..%#x counts as reserved (tight: %v), want not all of it: a part was punched", middle, s.reserved, s.tight)
	}
	if e, ok := s.takeRun(2 * n); !ok || e.off < roundUp(last, blockLen)-blockLen {
		t.Errorf("a run of %#x bytes lies at %#x, want it behind %#x", 2*n, e.off, last)
	}
}

// The zeros that are written in advance never reach what is in use: a store in
// small gaps and commits reads back whole, and after reopening.
func TestWrittenAhead(t *testing.T) {
	f := tempFile(t)
	s, err := CreateFile(f, CreateOptions{FrameSize: 4 << 10})
	must(t, err)
	r := rand.New(rand.NewPCG(9, 9))
	want := make([]byte, 1<<20)
	must(t, s.Truncate(int64(len(want))))
	for range 400 {
		off := r.IntN(len(want) - 20_000)
		n := 1 + r.IntN(20_000)
		if r.IntN(8) == 0 {
			must(t, s.Punch(int64(off), int64(n)))
			clear(want[off : off+n])
		} else {
			part := noise(n, byte(off))
			clear(part[n/2:])
			_, err := s.WriteAt(part, int64(off))
			must(t, err)
			copy(want[off:], part)
		}
		must(t, s.Sync())
		if r.IntN(16) == 0 {
			s.mu.Lock()
			s.punchGaps(true, 0)
			s.mu.Unlock()
		}
	}
	same(t, s, want)
	must(t, s.spaceFault())
	must(t, s.Close())
	var st unix.Stat_t
	must(t, unix.Stat(f.Name(), &st))
	s, err = Open(f.Name(), Options{})
	must(t, err)
	defer s.Close()
	same(t, s, want)
	if st.Size > s.closedEnd() {
		t.Errorf("closed file has %d bytes, want its end, %d", st.Size, s.closedEnd())
	}
}

// What was reserved behind the end is given back when the store is closed or
// discarded, also by a later writer when the first was killed.
func TestReservedIsGivenBack(t *testing.T) {
	for _, end := range []string{"closed", "discarded", "killed", "killed before its log grew the file"} {
		f := tempFile(t)
		path := f.Name()
		s, err := CreateFile(f, CreateOptions{FrameSize: 64 << 10})
		must(t, err)
		_, err = s.WriteAt(noise(3<<20, 4), 0)
		must(t, err)
		if end == "discarded" || end == "killed before its log grew the file" {
			must(t, s.Close())
			f, err = os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
		}
		switch end {
		case "discarded":
			s, err = OpenFile(f, Options{Writable: true})
			must(t, err)
			reserveSome(t, s)
			must(t, s.Discard())
		case "killed before its log grew the file":
			must(t, fileDisk{f}.Reserve(3<<20, 2<<20))
			must(t, f.Close())
		default:
			must(t, s.Sync())
			reserveSome(t, s)
			if end == "closed" {
				must(t, s.Close())
			} else {
				must(t, f.Close())
			}
		}
		if end != "closed" && end != "discarded" {
			s, err = Open(path, Options{Writable: true})
			must(t, err)
			must(t, s.Close())
		}
		var st unix.Stat_t
		must(t, unix.Stat(path, &st))
		s, err = Open(path, Options{})
		must(t, err)
		if last := s.sb.end + logBlockLen; st.Size > last && end != "discarded" || st.Blocks*512 > roundUp(st.Size, blockLen)+32<<10 {
			t.Errorf("%s: file of %d bytes takes %d, want no more than its end and a log block, %d", end, st.Size, st.Blocks*512, last)
		}
		must(t, s.Close())
	}
}

func reserveSome(t *testing.T, s *Store) {
	t.Helper()
	_, err := s.WriteAt(noise(2<<20, 5), 0)
	must(t, err)
	if s.reserved <= s.space.end() {
		t.Errorf("%#x is reserved, want more than the end, %#x", s.reserved, s.space.end())
	}
}
