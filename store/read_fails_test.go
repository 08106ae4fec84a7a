package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A brokenDisk can't be read where it is bad.
type brokenDisk struct {
	*simDisk
	bad span
}

func (d *brokenDisk) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= d.bad.from || off >= d.bad.to {
		return d.simDisk.ReadAt(p, off)
	}
	n, _ := d.simDisk.ReadAt(p[:max(0, d.bad.from-off)], off)
	return n, unix.EIO
}

// Where the file can't be read at one of several frames that are read at once, the
// frames before it are read, and the error is the file's: nothing is called damaged.
func TestReadFails(t *testing.T) {
	const frames = 8
	f := newForge()
	plain := noise(frames*MinFrameSize, 1)
	var entries []entry
	for n := range int64(frames) {
		entries = append(entries, f.frame(kindRaw, n, plain[n*MinFrameSize:][:MinFrameSize]))
	}
	d := &brokenDisk{simDisk: diskWith(f.leaf(entries...).image())}
	s, err := openDisk(d, nil, Options{})
	must(t, err)
	for n, e := range entries {
		for _, in := range []int64{0, 1, frameHeadLen, e.extent().len - 1} {
			d.bad = span{e.off() + in, int64(len(d.now))}
			got := make([]byte, len(plain))
			done, err := s.ReadAt(got, 0)
			if done != n*MinFrameSize || !errors.Is(err, unix.EIO) || errors.Is(err, ErrDamaged) || !bytes.Equal(got[:done], plain[:done]) {
				t.Errorf("frame %d can't be read at byte %d: read %d bytes, %v, want %d and EIO", n, in, done, err, n*MinFrameSize)
			}
			done, _, err = s.ReadFrames(0, got)
			if done != n || !errors.Is(err, unix.EIO) || errors.Is(err, ErrDamaged) {
				t.Errorf("frame %d can't be read at byte %d: read %d frames, %v, want %d and EIO", n, in, done, err, n)
			}
		}
	}
}

// Damage of the index names the store, whatever meets it.
func TestIndexDamageNamesStore(t *testing.T) {
	f := newForge()
	leaf := f.node(0, fanout, f.frame(kindLZ4, fanout, text(4096, "a")))
	f.root(1, f.node(1, 0, entry{}, leaf), (fanout+1)*MinFrameSize)
	image := f.image()
	image[leaf.off()+frameHeadLen] ^= 1
	path := filepath.Join(t.TempDir(), "bad.lazy")
	must(t, os.WriteFile(path, image, 0o600))
	b := make([]byte, MinFrameSize)
	for what, read := range map[string]func(s *Store) error{
		"ReadAt":     func(s *Store) error { _, err := s.ReadAt(b, fanout*MinFrameSize); return err },
		"ReadFrame":  func(s *Store) error { _, err := s.ReadFrame(fanout, b); return err },
		"ReadFrames": func(s *Store) error { _, _, err := s.ReadFrames(fanout, b); return err },
		"SeekData":   func(s *Store) error { _, err := s.SeekData(0); return err },
		"SeekHole":   func(s *Store) error { _, err := s.SeekHole(fanout * MinFrameSize); return err },
		"Info":       func(s *Store) error { _, err := s.Info(); return err },
		"FrameInfo":  func(s *Store) error { _, err := s.FrameInfo(fanout); return err },
	} {
		s, err := Open(path, Options{})
		must(t, err)
		defer s.Close()
		err = read(s)
		var d *DamageError
		if !errors.As(err, &d) || d.Path != path || d.Plain != (Range{fanout * MinFrameSize, MinFrameSize}) {
			t.Errorf("%s: %+v, want damage of %s that names its plain bytes", what, err, path)
		}
	}
}

// A scan finds zeros where the disk can't read a page, and behind the end of the file,
// whatever it has read before into the same memory.
func TestReadAround(t *testing.T) {
	image := noise(5*PageSize+100, 1)
	for _, bad := range []span{{0, PageSize}, {PageSize + 10, 2 * PageSize}, {PageSize + 10, 4 * PageSize}, {5 * PageSize, 5*PageSize + 100}} {
		whole := bytes.Clone(image)
		clear(whole[bad.from:bad.to])
		r := &salvage{d: &brokenDisk{diskWith(image), bad}}
		for _, off := range []int64{0, 8, PageSize, PageSize + 16, 5*PageSize + 8, 5*PageSize + 104} {
			got, want := bytes.Repeat([]byte{0xff}, 6*PageSize), make([]byte, 6*PageSize)
			copy(want, whole[min(int(off), len(whole)):])
			if r.readAround(got, off); !bytes.Equal(got, want) {
				t.Errorf("%#x to %#x can't be read: from %#x on the scan sees other bytes", bad.from, bad.to, off)
			}
		}
	}
}
