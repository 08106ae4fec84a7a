package fs

import (
	"strings"

	"golang.org/x/sys/unix"
)

// A look finds out what names of a folder show, many at a time.
type look struct {
	m    *mount
	dir  place
	stat bool // attributes are wanted of what is no store, too

	all    []name              // of the folder, if they were read just now
	plain  map[string]struct{} // of all, those without the suffix of a store
	sights []sight
}

// A sight is what a name of a backing folder shows.
type sight struct {
	shown string // name in the mount; empty: the backing name is gone
	entry entry  // backing is empty for "." and "..", and where nobody could tell; st only filled if wanted

	fd     int  // of a file whose beginning the disk is reading, otherwise -1
	unread bool // it can't be read, and is taken for a store: see probe
}

// lookedAt is how many names a look takes at a time at most: so many files may be
// open at once to have their beginnings read, if there are descriptors enough.
const lookedAt = 64

// at looks at the first of names, and at as many behind it as go well together. The
// sights are good until the next call.
func (l *look) at(names []name) []sight {
	names = names[:min(len(names), l.m.probes.ahead)]
	if l.sights == nil {
		l.sights = make([]sight, len(names))
	}
	sights := l.sights[:min(len(names), len(l.sights))]
	for i := range sights {
		sights[i] = sight{shown: names[i].backing, fd: -1}
		l.begin(&names[i], &sights[i])
	}
	for i := range sights {
		s := &sights[i]
		if s.fd >= 0 {
			p, err := l.m.probeFile(s.fd, s.entry.backing, &s.entry.st)
			s.entry.store, s.entry.size = p.store || err != nil, p.size
			s.unread = err != nil
		}
		if names[i].mayBeStore() {
			l.name(s)
		}
		if s.unread {
			s.entry.backing = "" // Who looks it up is told.
		}
	}
	return sights
}

// begin fills s with what there is to know of n without waiting for the disk, or has
// the disk begin.
func (l *look) begin(n *name, s *sight) {
	if n.backing == "." || n.backing == ".." {
		return
	}
	e := &s.entry
	e.backing = n.backing
	switch {
	case l.m.isSingleRoot(l.dir.node):
		single, err := l.m.findSingle(l.dir, l.m.single)
		if s.shown = l.m.single; err != nil {
			s.shown = ""
		}
		*e = single
	case n.mayBeStore() && !l.m.knows(inode{l.dir.node.inode.dev, n.ino}):
		l.open(s)
	case n.mayBeStore():
		if l.m.statAt(l.dir, e) != nil {
			s.shown = ""
			return
		}
		if l.m.probe(l.dir, e) != nil {
			e.store, s.unread = true, true
		}
	case l.stat && l.m.statAt(l.dir, e) != nil:
		e.backing = "" // Its name stays; the kernel looks for itself.
	}
}

// open opens the file of s, which may be a store, and begins to read it.
func (l *look) open(s *sight) {
	e := &s.entry
	fd, err := openNoAtime(l.dir.fd, e.backing)
	if err != nil {
		// It may be there and just not for us to read: see probe.
		if l.m.statAt(l.dir, e) != nil {
			s.shown = ""
		}
		e.store = e.st.Mode&unix.S_IFMT == unix.S_IFREG
		s.unread = e.store && err != unix.EACCES
		return
	}
	if unix.Fstat(fd, &e.st) != nil || e.st.Mode&unix.S_IFMT != unix.S_IFREG || l.m.probeKnown(e) {
		unix.Close(fd)
		return
	}
	if p, ok := l.m.probeNow(fd, e); ok {
		unix.Close(fd)
		e.store, e.size = p.store, p.size
		return
	}
	// Where this is refused the file is read when its turn comes.
	unix.Fadvise(fd, 0, headRead, unix.FADV_WILLNEED)
	s.fd = fd
}

// name sets the name under which s, a file that may be a store, is shown.
func (l *look) name(s *sight) {
	e := &s.entry
	if s.shown == "" || !e.store || isLong(e.backing) || l.m.isSingleRoot(l.dir.node) {
		return
	}
	name, _ := stripped(e.backing)
	if l.taken(name) {
		e.store, e.size = false, 0
		return
	}
	s.shown = name
}

// taken tells whether something appears as name that has that backing name.
func (l *look) taken(name string) bool {
	if l.all == nil || strings.HasSuffix(name, suffix) {
		other := entry{backing: name}
		if l.m.statAt(l.dir, &other) != nil {
			return false
		}
		itself, _ := l.m.asItself(l.dir, &other)
		return itself
	}
	if l.plain == nil {
		l.plain = make(map[string]struct{})
		for _, n := range l.all {
			if !strings.HasSuffix(n.backing, suffix) {
				l.plain[n.backing] = struct{}{}
			}
		}
	}
	_, ok := l.plain[name]
	return ok
}

// mayBeStore tells whether n can show a store, by its name and type.
func (n *name) mayBeStore() bool {
	_, ok := PlainName(n.backing)
	return n.mode == unix.S_IFREG && ok
}
