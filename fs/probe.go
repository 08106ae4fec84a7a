package fs

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// probes remembers which backing files are stores and how large their plain
// content is, so that listing a folder again opens none of them.
type probes struct {
	ahead int // files that a look has open at once

	mu       sync.Mutex // guards new and old
	new, old map[inode]probed
}

// probesMax bounds each of new and old; an entry is about 100 bytes.
const probesMax = 32 << 10

// A probed is what was found, and the state of the file it was found in.
type probed struct {
	mtime, ctime unix.Timespec
	fileSize     int64
	store        bool
	size         int64  // plain bytes
	generation   uint64 // of the store
}

func (p *probes) get(st *unix.Stat_t) (probed, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := inodeOf(st)
	v, ok := p.new[k]
	if !ok {
		if v, ok = p.old[k]; ok {
			p.put(k, v)
		}
	}
	return v, ok && v.mtime == st.Mtim && v.ctime == st.Ctim && v.fileSize == st.Size
}

// has tells whether something is remembered of i, which may be out of date.
func (p *probes) has(i inode) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, isNew := p.new[i]
	_, isOld := p.old[i]
	return isNew || isOld
}

// put is called with mu held.
func (p *probes) put(k inode, v probed) {
	if p.new == nil || len(p.new) >= probesMax {
		p.old, p.new = p.new, make(map[inode]probed)
	}
	p.new[k] = v
}

func (p *probes) set(st *unix.Stat_t, v probed) {
	// A file changed twice within one tick of the kernel's clock (10 ms at
	// HZ=100) may keep its times, so a young result can't be trusted later.
	if since(st.Ctim) < 50*time.Millisecond {
		return
	}
	v.mtime, v.ctime, v.fileSize = st.Mtim, st.Ctim, st.Size
	p.mu.Lock()
	defer p.mu.Unlock()
	p.put(inodeOf(st), v)
}

// knows tells whether there is something to know about the backing inode i, which
// may be out of date.
func (m *mount) knows(i inode) bool {
	return m.files.has(shown{i, true}) || m.probes.has(i)
}

// probe fills e.store and e.size for the file e.backing in dir whose e.st is known,
// and only for one whose name allows it to be a store.
//
// A file that is Blank is an empty store. One that has the magic of a store and is damaged
// is a store of size 0: it keeps its name, and opening it fails. So is one that this user
// may not read, whatever it is: nobody could tell, and his own stores keep their names.
// What can't be read for another reason is an error.
func (m *mount) probe(dir place, e *entry) error {
	if e.st.Mode&unix.S_IFMT != unix.S_IFREG || m.probeKnown(e) {
		return nil
	}
	fd, err := openNoAtime(dir.fd, e.backing)
	if err == unix.EACCES {
		e.store = true
		return nil
	}
	if err != nil {
		return err
	}
	p, err := m.probeFile(fd, e.backing, &e.st)
	e.store, e.size = p.store, p.size
	return err
}

// probeKnown is probe without reading the file; false if that is to be done.
func (m *mount) probeKnown(e *entry) bool {
	if f := m.files.get(shown{inodeOf(&e.st), true}); f != nil {
		defer m.files.release(f)
		if size, ok := f.plainSize(); ok {
			e.store, e.size = true, size
			return true
		}
	}
	p, ok := m.probes.get(&e.st)
	e.store, e.size = p.store && ok, p.size
	return ok
}

// headRead is how much of a file is read with its first block, in bytes: where a
// store is small, all of it.
const headRead = 16 << 10

// sizeOf is the plain size of the store f, open or not, whose backing inode is st. What
// is damaged, or this user may not read, has size 0.
func (m *mount) sizeOf(f *file, st *unix.Stat_t) (int64, error) {
	if size, ok := f.plainSize(); ok {
		return size, nil
	}
	if p, ok := m.probes.get(st); ok {
		return p.size, nil
	}
	fd, err := reopenQuietly(f.path, unix.O_RDONLY)
	if errors.Is(err, unix.EACCES) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	p, err := m.probeFile(fd, f.name, st)
	return p.size, err
}

// probeNow probes the file fd, whose state is e.st, if the kernel has what that needs
// in memory and the first block tells all.
func (m *mount) probeNow(fd int, e *entry) (probed, bool) {
	return m.probeFirst(fd, e.backing, &e.st, unix.RWF_NOWAIT)
}

// probeFirst is probeNow, but with flags of preadv2(2).
func (m *mount) probeFirst(fd int, name string, st *unix.Stat_t, flags int) (probed, bool) {
	b := firstBlocks.Get().(*[store.ProbeLen]byte)
	defer firstBlocks.Put(b)
	n, err := unix.Preadv2(fd, [][]byte{b[:]}, 0, flags)
	if err == unix.EOPNOTSUPP {
		n, err = unix.Pread(fd, b[:], 0)
	}
	if err != nil || n < len(b) && int64(n) < st.Size {
		return probed{}, false
	}
	sum, whole, err := store.ProbeBytes(b[:n], st.Size)
	if !whole {
		return probed{}, false
	}
	p, err := m.toProbed(fd, sum, name, err)
	if err != nil {
		return probed{}, false
	}
	m.probes.set(st, p)
	return p, true
}

var firstBlocks = sync.Pool{New: func() any { return new([store.ProbeLen]byte) }}

// probeFile says whether the file fd, which it closes, is a store, and its plain size.
// Messages call it name; st is its state, by which that is remembered.
func (m *mount) probeFile(fd int, name string, st *unix.Stat_t) (probed, error) {
	if p, ok := m.probeFirst(fd, name, st, 0); ok {
		unix.Close(fd)
		return p, nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	sum, err := store.Probe(f)
	p, err := m.toProbed(fd, sum, name, err)
	if err == nil {
		m.probes.set(st, p)
	}
	return p, err
}

// toProbed is what a probe of the file fd, called name, has found, sum or err. Its error
// says that it has found nothing out.
func (m *mount) toProbed(fd int, sum store.Summary, name string, err error) (probed, error) {
	switch {
	case err == nil:
		return probed{store: true, size: sum.Size, generation: sum.Generation}, nil
	case errors.Is(err, store.ErrNotStore):
		return probed{store: store.Blank(fd)}, nil
	}
	m.logOnce("%s: %v", name, err)
	if errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrVersion) {
		return probed{store: true}, nil
	}
	return probed{}, err
}
