package store

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of size bytes for the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// On a disk that fills up, the write that has no room says so; everything that
// was accepted is kept by Sync, can be read, cut, punched and closed, and found
// again; and what is given up makes room for others.
func TestFullDisk(t *testing.T) {
	for _, frameSize := range []int{4 << 10, 64 << 10} {
		dir := smallDisk(t, "6m")
		path := filepath.Join(dir, "s.lazy")
		s, err := Create(path, CreateOptions{FrameSize: frameSize, DirtyBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		want := fill(t, s, nil)
		must(t, s.Sync())
		for n := -1; n < len(want); { // What is compressed takes less than was reserved for it.
			n = len(want)
			want = fill(t, s, want)
			must(t, s.Sync())
		}
		if len(want) < 3<<20 {
			t.Errorf("frames of %d: the disk of 6 MiB is full with %d plain bytes", frameSize, len(want))
		}
		same(t, s, want)
		if _, err := s.WriteAt(want[:frameSize], int64(len(want)+frameSize)); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("write on a full disk: %v, want ENOSPC", err)
		}
		must(t, s.Punch(1<<20+5, 1<<20))
		clear(want[1<<20+5 : 2<<20+5])
		must(t, s.Truncate(3<<20-7))
		want = want[:3<<20-7]
		must(t, s.Close())
		s, err = Open(path, Options{Writable: true})
		must(t, err)
		same(t, s, want)
		must(t, s.Check(context.Background(), func(d *DamageError) { t.Error(d) }, nil))
		must(t, s.Close())
		var st syscall.Stat_t
		must(t, syscall.Stat(path, &st))
		if used := st.Blocks * 512; used > 2<<20+512<<10 {
			t.Errorf("frames of %d: %d bytes are taken after 2 MiB are left", frameSize, used)
		}
		must(t, os.WriteFile(filepath.Join(dir, "other"), make([]byte, 3<<20), 0o600))
		s, err = Open(path, Options{Writable: true})
		must(t, err)
		must(t, s.Truncate(0))
		must(t, s.Close())
	}
}

// fill writes noise behind want until the disk is full and returns it with what was
// accepted.
func fill(t *testing.T, s *Store, want []byte) []byte {
	r := rand.New(rand.NewPCG(1, uint64(len(want))))
	for {
		p := make([]byte, 1+r.IntN(200_000))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		n, err := s.WriteAt(p, int64(len(want)))
		want = append(want, p[:n]...)
		if err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			return want
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, s *Store, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) || s.Size() != int64(len(want)) {
		t.Fatalf("%d bytes read back wrong: %v, size %d", len(want), err, s.Size())
	}
}

// A store of nothing but a hole, or zeros, that may lie in its first block can be
// made longer, cut and synced on a full disk.
func TestFullDiskSmallHole(t *testing.T) {
	for _, zeros := range []int{0, 20_000} {
		dir := smallDisk(t, "1m")
		path := filepath.Join(dir, "s.lazy")
		s, err := Create(path, CreateOptions{FrameSize: 4 << 10})
		must(t, err)
		if zeros > 0 {
			_, err = s.WriteAt(make([]byte, zeros), 0)
			must(t, err)
			must(t, s.Sync())
			must(t, s.Truncate(1000))
			must(t, s.Close())
			s, err = Open(path, Options{Writable: true})
			must(t, err)
		}
		fillDisk(t, dir)
		for _, size := range []int64{984, 100, inlineMax, 50} {
			if err := s.Truncate(size); err != nil && (zeros == 0 || !errors.Is(err, unix.ENOSPC)) {
				t.Errorf("zeros %d: truncate to %d: %v", zeros, size, err)
			}
			if err := s.Sync(); err != nil {
				t.Errorf("zeros %d: sync of %d bytes: %v", zeros, size, err)
			}
		}
		size := s.Size()
		must(t, s.Close())
		s, err = Open(path, Options{})
		must(t, err)
		same(t, s, make([]byte, size))
		must(t, s.Close())
	}
}

// What a full disk lets a store keep in its first block stays there, also when so little
// may wait that frames are compressed behind the writer.
func TestSmallStoreOnFullDisk(t *testing.T) {
	d := &simDisk{}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize, DirtyBytes: MinFrameSize})
	must(t, err)
	must(t, s.Sync())
	d.setFull(true)
	for i := range 3 {
		must(t, s.Truncate(384))
		mustWrite(t, s, make([]byte, 252), 132)
		s.flusher.Wait()
		must(t, s.Sync())
		mustWrite(t, s, text(200, "words "), 50*int64(i))
		s.flusher.Wait()
		must(t, s.Sync())
	}
	must(t, s.Close())
}
