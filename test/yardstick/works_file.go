package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/uffdmap"
)

// makeErofs makes an EROFS image of the plain file, where the machine can: lz4, in
// clusters as large as most stores' frames.
func makeErofs(s stores) error {
	tree := filepath.Join(s.folder, "tree")
	if err := errors.Join(os.Mkdir(tree, 0o700), os.Link(s.plain(), filepath.Join(tree, "plain"))); err != nil {
		return err
	}
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		return err
	}
	out, err := exec.Command("mkfs.erofs", "--quiet", "-zlz4", "-C16384", s.erofs(), tree).CombinedOutput()
	if err != nil {
		os.Remove(s.erofs())
		return fmt.Errorf("mkfs.erofs: %w: %s", err, out)
	}
	return nil
}

// forget makes the kernel forget what it has cached of the file at path.
func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // What is not written yet stays.
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// An access reads b in its way, and gives a figure.
type access func(b []byte) (float64, error)

// inOrder reads a byte of each page, in order.
func inOrder(b []byte) (float64, error) {
	if err := unix.Madvise(b, unix.MADV_SEQUENTIAL); err != nil {
		return 0, err
	}
	begin := time.Now()
	touchPages(b)
	return gigabytes(len(b), begin), nil
}

// inDisorder reads a byte of some frames. Its figure is a mean: what is read ahead
// counts.
func inDisorder(b []byte) (float64, error) {
	if err := unix.Madvise(b, unix.MADV_RANDOM); err != nil {
		return 0, err
	}
	return mean(func(at int) error {
		seen.Store(int32(b[at]))
		return nil
	})
}

// mean is the mean of the microseconds that do takes for some frames of the plain
// file.
func mean(do func(at int) error) (float64, error) {
	const frame, touches = 16 << 10, 2000
	begin := time.Now()
	for _, n := range someOf(touches, plainSize/frame) {
		if err := do(n * frame); err != nil {
			return 0, err
		}
	}
	return microseconds(time.Since(begin)) / touches, nil
}

// mapFile does a with the file at path, as the kernel maps it.
func mapFile(path string, a access) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, plainSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	v, err := a(b)
	return v, errors.Join(err, unix.Munmap(b))
}

func fileCached(s stores, a access) (float64, error) {
	if _, err := mapFile(s.plain(), inOrder); err != nil {
		return 0, err
	}
	return mapFile(s.plain(), a)
}

func fileCold(s stores, a access) (float64, error) {
	if err := forget(s.plain()); err != nil {
		return 0, err
	}
	return mapFile(s.plain(), a)
}

// erofsCold does a with the plain file in EROFS, mounted afresh. It has no figure
// where there is no image or it can't be mounted.
func erofsCold(s stores, a access) (float64, error) {
	dir, err := os.MkdirTemp(s.folder, "mount")
	if err != nil {
		return 0, err
	}
	if forget(s.erofs()) != nil || !mountErofs(s.erofs(), dir) {
		return math.NaN(), nil
	}
	v, err := mapFile(filepath.Join(dir, "plain"), a)
	return v, errors.Join(err, unix.Unmount(dir, 0))
}

// mountErofs mounts an image: from its file, which is faster, where the kernel can,
// otherwise through a loop device.
func mountErofs(image, dir string) bool {
	return unix.Mount(image, dir, "erofs", unix.MS_RDONLY, "") == nil ||
		exec.Command("mount", "-t", "erofs", "-o", "ro,loop", image, dir).Run() == nil
}

// bytesCold does a with a served mapping.
func bytesCold(s stores, a access) (float64, error) {
	if err := forget(s.frames); err != nil {
		return 0, err
	}
	return withMap(s.frames, uffdmap.Options{}, func(m *uffdmap.Mapping) (float64, error) { return a(m.Bytes()) })
}

// viewRandomCold views some frames.
func viewRandomCold(s stores) (float64, error) {
	if err := forget(s.frames); err != nil {
		return 0, err
	}
	return withView(s.frames, uffdmap.Options{}, func(v *uffdmap.Viewer) (float64, error) {
		return mean(func(at int) error { return viewPart(v, int64(at), 1) })
	})
}

// viewSequentialCold views a whole store.
func viewSequentialCold(s stores) (float64, error) {
	if err := forget(s.frames); err != nil {
		return 0, err
	}
	return viewSequential(s, 1)
}
