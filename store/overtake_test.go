package store

import (
	"os"
	"path/filepath"
	"testing"
)

// A steppedDisk says when a write of length bytes begins and waits until it may go on.
type steppedDisk struct {
	disk
	length int
	writes chan chan struct{} // of each write, what to close to let it go on
}

func (d *steppedDisk) WriteAt(b []byte, off int64) (int, error) {
	if d.length > 0 && len(b) == d.length {
		goOn := make(chan struct{})
		d.writes <- goOn
		<-goOn
	}
	return d.disk.WriteAt(b, off)
}

// A frame that is replaced while an older form of it is on its way to the file
// stays replaced, whichever of the two arrives first.
func TestReplacedOnTheWay(t *testing.T) {
	for _, c := range []struct {
		name    string
		replace func(s *Store, n int64, p []byte) error
	}{
		{"WriteFrame", (*Store).WriteFrame},
		{"FrameWriter", func(s *Store, n int64, p []byte) error {
			w := s.NewFrameWriter()
			defer w.Close()
			if err := w.Add(n, p); err != nil {
				return err
			}
			return w.Flush()
		}},
	} {
		for _, first := range []string{"new", "old"} {
			t.Run(c.name+"/"+first, func(t *testing.T) { replaceOnTheWay(t, c.replace, first == "old") })
		}
	}
}

func replaceOnTheWay(t *testing.T, replace func(s *Store, n int64, p []byte) error, oldFirst bool) {
	f, err := os.Create(filepath.Join(t.TempDir(), "s.lazy"))
	must(t, err)
	d := &steppedDisk{disk: fileDisk{f}}
	s, err := createDisk(d, f, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	defer s.Discard()
	want := noise(8*MinFrameSize, 1)
	_, err = s.WriteAt(want, 0)
	must(t, err)
	must(t, s.Sync())

	const n = 5
	_, err = s.WriteAt(noise(MinFrameSize, 2), n*MinFrameSize)
	must(t, err)
	newer := want[n*MinFrameSize : (n+1)*MinFrameSize]
	copy(newer, noise(MinFrameSize, 3))

	d.length, d.writes = int(s.frameRoom()), make(chan chan struct{})
	replaced, flushed := make(chan error), make(chan error)
	go func() { replaced <- replace(s, n, newer) }()
	newWrite := <-d.writes
	go func() { flushed <- s.flushFrame(n, s.dirty[n]) }()
	oldWrite := <-d.writes
	if oldFirst {
		close(oldWrite)
		must(t, <-flushed)
		close(newWrite)
		must(t, <-replaced)
	} else {
		close(newWrite)
		must(t, <-replaced)
		close(oldWrite)
		must(t, <-flushed)
	}
	d.length = 0
	same(t, s, want)
	if s.booked != 0 || s.dirtyBytes != 0 || s.waits() {
		t.Errorf("%d frames booked, %d bytes wait: want none", s.booked, s.dirtyBytes)
	}
	must(t, s.Sync())
	same(t, s, want)
	if bad := checked(t, s); len(bad) > 0 {
		t.Error(bad)
	}
}

// What makes the last frame longer while that is replaced as it was stays behind what
// replaces it.
func TestGrownOnTheWay(t *testing.T) {
	const last, begun = 8, 1000
	for _, flushed := range []bool{false, true} {
		d := &meetingDisk{disk: &simDisk{}, length: frameHeadLen + begun}
		s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
		must(t, err)
		want := noise(last*MinFrameSize+begun, 1)
		mustWrite(t, s, want, 0)
		must(t, s.Sync())
		newer, more := noise(begun, 2), noise(500, 3)
		copy(want[last*MinFrameSize:], newer)
		want = append(want, more...)
		d.meet = func() {
			mustWrite(t, s, more, last*MinFrameSize+begun)
			if flushed {
				must(t, s.flushFrame(last, s.dirty[last]))
			}
		}
		must(t, s.WriteFrame(last, newer))
		same(t, s, want)
		must(t, s.Sync())
		same(t, s, want)
		for _, bad := range checked(t, s) {
			t.Error(bad)
		}
		if s.booked != 0 || s.dirtyBytes != 0 || s.waits() {
			t.Errorf("%d frames booked, %d bytes wait: want none", s.booked, s.dirtyBytes)
		}
	}
}
