package uffdmap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// build makes everything of a mapping that belongs to the program: the memory,
// its userfaultfd, the table, and the descriptors of the store and of the spill
// file. On error free gives back what there is.
func (m *Mapping) build() error {
	m.fds = slices.Repeat([]int{-1}, fdSpill+1)
	if err := m.openSource(); err != nil {
		return err
	}
	m.Len = max(pageSize, (m.spec.Size+pageSize-1)&^(pageSize-1))
	if m.Limit > 0 {
		m.Limit = max(m.Limit, minFrames*m.FrameSize)
	}
	if m.hasSpill() {
		fd, err := newSpill(m.folder, m.Len)
		if err != nil {
			return err
		}
		m.fds[fdSpill] = fd
	}
	if err := m.buildTable(); err != nil {
		return err
	}
	if err := m.buildMemory(); err != nil {
		return err
	}
	return m.register()
}

// minFrames are kept however small the memory limit is, so that a frame is not
// evicted before the one who touched it has seen it.
const minFrames = 16

// openSource opens the source, takes the lock of a store that is to be written,
// and learns size and frame size.
func (m *Mapping) openSource() error {
	flags := unix.O_RDONLY
	switch {
	case m.Pages != "":
		flags |= unix.O_DIRECTORY
	case m.Writable:
		flags = unix.O_RDWR
	}
	// Opening a named pipe without O_NONBLOCK would wait for its writer. Some file systems
	// let signals interrupt it.
	fd, err := -1, error(unix.EINTR)
	for err == unix.EINTR {
		fd, err = unix.Open(m.Path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: m.Path, Err: err}
	}
	m.fds[fdSource] = fd
	m.folder = filepath.Dir(m.Path)
	if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
		m.folder = filepath.Dir(path) // Links may lead there.
	}
	if m.Writable {
		if err := lockStore(fd, m.Path); err != nil {
			return err
		}
	}
	f, err := duplicate(fd, m.Path)
	if err != nil {
		return err
	}
	if m.Pages != "" {
		p, err := store.OpenPagesAt(f, m.Pages)
		if err != nil {
			return err
		}
		m.spec.Size, m.FrameSize = p.Size(), int64(p.FrameSize())
		return p.Close()
	}
	defer f.Close()
	sum, err := store.Probe(f)
	if err != nil {
		return err
	}
	m.spec.Size, m.FrameSize = sum.Size, int64(sum.FrameSize)
	return nil
}

// lockStore takes the writer's lock for this process, under whose name others
// see it. The pager and its successors work on copies of the descriptor, which
// share the lock.
func lockStore(fd int, path string) error {
	err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err != unix.EWOULDBLOCK {
		return nil // If it can't be locked at all the store decides what that means.
	}
	f, err := duplicate(fd, path)
	if err != nil {
		return err
	}
	s, err := store.OpenFile(f, store.Options{Writable: true, Shared: true})
	if err != nil {
		return err // It names the holder.
	}
	return s.Discard() // The holder has just given it up, and we have it now.
}

// unlock gives the writer's lock up when nobody writes to the store any more, though
// the standby, or a child that the program has just made, may have a copy of the
// descriptor still.
func (m *Mapping) unlock() {
	if m.Writable {
		unix.Flock(m.fds[fdSource], unix.LOCK_UN)
	}
}

func duplicate(fd int, path string) (*os.File, error) {
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "dup", Path: path, Err: err}
	}
	return os.NewFile(uintptr(d), path), nil
}

// newSpill makes a file without a name for evicted dirty frames, on the disk of
// the store if that can be written.
func newSpill(folder string, size int64) (int, error) {
	fd, err := newNameless(folder, size)
	if err == nil {
		return fd, nil
	}
	fd, other := newNameless(os.TempDir(), size)
	if other == nil {
		return fd, nil
	}
	return -1, fmt.Errorf("make spill file: %w; %w", err, other)
}

// newNameless makes a file of size bytes without a name on the disk of dir.
func newNameless(dir string, size int64) (int, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make %#x bytes in %s: %w", size, dir, err)
	}
	return fd, nil
}

func (m *Mapping) buildTable() error {
	fd, err := newTableMemory(m.frames())
	if err != nil {
		return err
	}
	m.fds[fdTable] = fd
	m.table, err = mapTable(fd, m.frames(), false)
	return err
}

// buildMemory makes the memory. Its descriptor is mapped here and nowhere else:
// a touch through a second mapping would make zeros of an absent page.
func (m *Mapping) buildMemory() error {
	fd, err := unix.MemfdCreate("lazyfs", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make memory: %w", err)
	}
	m.fds[fdMemory], m.memory = fd, fd
	if err := unix.Ftruncate(fd, m.Len); err != nil {
		return fmt.Errorf("make %#x bytes of memory: %w", m.Len, err)
	}
	prot := unix.PROT_READ
	if m.editable {
		prot |= unix.PROT_WRITE
	}
	if m.mem, err = unix.Mmap(fd, 0, int(m.Len), unix.PROT_NONE, unix.MAP_SHARED|unix.MAP_NORESERVE); err != nil {
		return fmt.Errorf("map %#x bytes of memory: %w", m.Len, err)
	}
	if err := openMemory(m.mem, prot); err != nil {
		return fmt.Errorf("map %#x bytes of memory: %w", m.Len, err)
	}
	m.Base = uint64(address(m.mem))
	m.first.Store(&m.mem[0])
	if err := keepFromChildren(m.mem); err != nil {
		return err
	}
	return refuseHugePages(m.mem)
}

// register makes the faults of the memory ours.
func (m *Mapping) register() error {
	want := uffd.FeatureMissingShmem | uffd.FeaturePoison
	mode := uffd.ModeMissing
	if m.Tracked {
		want |= uffd.FeatureFaultWP | uffd.FeatureWPHugetlbfsShmem
		mode |= uffd.ModeWP
	}
	u, err := uffd.Open(want, 0)
	if err != nil {
		return err
	}
	// The number alone is kept: it is sent, and closed by free.
	m.fds[fdUffd], m.Features = u.Fd(), u.Features()
	if err := u.Register(uintptr(m.Base), uintptr(m.Len), mode); err != nil {
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%w: write protection of shared memory: %w", ErrUnsupported, err)
		}
		return err
	}
	return nil
}

// attachment asks a pager to serve m.
func (m *Mapping) attachment() message {
	return message{Verb: verbAttach, ID: m.ID, Spec: &m.spec, fds: m.sendable()}
}

// sendable are the descriptors that the pager needs.
func (m *Mapping) sendable() []int { return m.fds[:m.fdCount()] }

// free gives back what build made. The memory goes before the userfaultfd, since
// without that absent pages would become zeros.
func (m *Mapping) free() {
	m.first.Store(nil)
	if m.mem != nil {
		unix.Munmap(m.mem)
		m.mem = nil
	}
	if m.table != nil {
		m.table.close()
		m.table = nil
	}
	closeAll(m.fds)
	m.fds = nil
}
