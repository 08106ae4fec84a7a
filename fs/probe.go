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
	ahead int // files that probeAll has open at once

	mu       sync.Mutex // guards new and old
	new, old map[inode]probed
}

// probesMax bounds each of the two generations; an entry is about 100 bytes.
const probesMax = 32 << 10

// A probed is what was found, and the state of the file it was found in.
type probed struct {
	mtime, ctime unix.Timespec
	fileSize     int64
	store        bool
	size         int64 // plain bytes
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

// probe fills e.store and e.size for the regular file e.backing in dir whose
// e.st is known, and only for one whose name allows it to be a store.
//
// A file that has the magic of a store and is damaged is a store of size 0: it
// keeps its name, and opening it fails.
func (m *mount) probe(dir place, e *entry) {
	if e.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	if f := m.files.find(inodeOf(&e.st)); f != nil {
		defer m.files.release(f)
		if size, ok := f.plainSize(); ok {
			e.store, e.size = true, size
			return
		}
	}
	p, ok := m.probes.get(&e.st)
	if !ok {
		fd, err := openNoAtime(dir.fd, e.backing)
		if err != nil {
			return
		}
		f := os.NewFile(uintptr(fd), e.backing)
		p = m.probeFile(f)
		f.Close()
		m.probes.set(&e.st, p)
	}
	e.store, e.size = p.store, p.size
}

// probedAhead is how many files are open at once to have their beginnings read, if
// there are descriptors enough.
const probedAhead = 64

// headRead is how much of a file is read with its first block, in bytes: where a
// store is small, all of it.
const headRead = 16 << 10

// probeAll probes what names in dir may be stores, so that the disk has many of
// them to read at once. What fails is left to probe.
func (m *mount) probeAll(dir place, names []name) {
	var reading []probing
	finish := func() {
		for i := range reading {
			p := &reading[i]
			m.probes.set(&p.st, m.probeFile(p.file))
			p.file.Close()
		}
		reading = reading[:0]
	}
	for i := range names {
		if !names[i].mayBeStore() {
			continue
		}
		if p, ok := m.beginProbe(dir, names[i].backing); ok {
			reading = append(reading, p)
		}
		if len(reading) >= m.probes.ahead {
			finish()
		}
	}
	finish()
}

// A probing is a file whose beginning the disk is reading, and its state before.
type probing struct {
	file *os.File
	st   unix.Stat_t
}

// beginProbe begins to read a file unless it is known, or open.
func (m *mount) beginProbe(dir place, backing string) (probing, bool) {
	e := entry{backing: backing}
	if m.statAt(dir, &e) != nil {
		return probing{}, false
	}
	if f := m.files.find(inodeOf(&e.st)); f != nil {
		m.files.release(f)
		return probing{}, false
	}
	if _, ok := m.probes.get(&e.st); ok {
		return probing{}, false
	}
	fd, err := openNoAtime(dir.fd, backing)
	if err != nil {
		return probing{}, false
	}
	// Where this is refused the file is read when its turn comes.
	unix.Fadvise(fd, 0, headRead, unix.FADV_WILLNEED)
	return probing{os.NewFile(uintptr(fd), backing), e.st}, true
}

// sizeOf is the plain size of the store f, which is not open and whose backing
// inode is st. What can't be read has size 0.
func (m *mount) sizeOf(f *file, st *unix.Stat_t) int64 {
	if p, ok := m.probes.get(st); ok {
		return p.size
	}
	fd, err := reopenQuietly(f.path, unix.O_RDONLY)
	if err != nil {
		return 0
	}
	file := os.NewFile(uintptr(fd), f.name)
	defer file.Close()
	p := m.probeFile(file)
	m.probes.set(st, p)
	return p.size
}

// probeFile says whether f is a store, and its plain size.
func (m *mount) probeFile(f *os.File) probed {
	sum, err := store.Probe(f)
	switch {
	case err == nil:
		return probed{store: true, size: sum.Size}
	case errors.Is(err, store.ErrNotStore):
		return probed{}
	case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrVersion):
		m.logOnce("%s: %v", f.Name(), err)
		return probed{store: true}
	}
	m.logOnce("%s: %v", f.Name(), err)
	return probed{}
}
