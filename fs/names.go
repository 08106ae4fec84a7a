package fs

import (
	"strings"

	"golang.org/x/sys/unix"
)

// How names in the backing folder ("backing names") and in the mount relate:
//
//   - A regular file NAME.lazy that begins with the magic of a store appears as
//     NAME with its plain content, unless something else already appears as NAME.
//     Then it appears as it is, under its full name with its stored bytes.
//   - A regular file of 251 to 255 bytes of name has no room for the suffix. When
//     it begins with the magic, and the name does not end in .lazy, it appears
//     under its name with its plain content.
//   - Everything else appears as it is.
//
// A file created through the mount becomes a store where StoreName has a name for
// it that is free, otherwise a plain file.

const (
	suffix  = ".lazy"
	maxName = 255 // NAME_MAX, bytes
)

// StoreName is the backing name of a store that appears as name; false when a
// store can't appear under that name.
func StoreName(name string) (string, bool) {
	if len(name)+len(suffix) <= maxName {
		return name + suffix, true
	}
	return name, isLong(name)
}

// PlainName is the name under which a store with backing name b appears, where nothing
// else does; false when no store has such a name.
func PlainName(b string) (string, bool) {
	if isLong(b) {
		return b, true
	}
	return stripped(b)
}

// isLong tells whether a store that appears as name has no suffix.
func isLong(name string) bool {
	return len(name)+len(suffix) > maxName && len(name) <= maxName && !strings.HasSuffix(name, suffix)
}

// stripped is the name under which a store with backing name b appears, if the
// suffix says that it may be one.
func stripped(b string) (string, bool) {
	name, ok := strings.CutSuffix(b, suffix)
	if !ok || name == "" || name == "." || name == ".." {
		return "", false
	}
	return name, true
}

// An entry is one name of a folder of the mount.
type entry struct {
	backing string      // name in the backing folder
	st      unix.Stat_t // of the backing inode
	store   bool        // the content is the plain content of a store
	size    int64       // plain size if store
}

// find looks up name in folder dir. The error is an errno.
func (m *mount) find(dir place, name string) (entry, error) {
	if m.isSingleRoot(dir.node) {
		return m.findSingle(dir, name)
	}
	if len(name) > maxName {
		return entry{}, unix.ENAMETOOLONG
	}
	e := entry{backing: name}
	switch err := m.statAt(dir, &e); {
	case err != nil && err != unix.ENOENT:
		return entry{}, err
	case err == nil:
		if isLong(name) {
			err := m.probe(dir, &e)
			return e, err
		}
		itself, err := m.asItself(dir, &e)
		if err != nil {
			return entry{}, err
		}
		if itself {
			e.store = false
			return e, nil
		}
	}
	return m.findStore(dir, name)
}

// findStore looks up name in folder dir as that of a store with the suffix.
func (m *mount) findStore(dir place, name string) (entry, error) {
	backing, ok := StoreName(name)
	if !ok || isLong(name) {
		return entry{}, unix.ENOENT
	}
	e := entry{backing: backing}
	if err := m.statAt(dir, &e); err != nil {
		return entry{}, err
	}
	if err := m.probe(dir, &e); err != nil {
		return entry{}, err
	}
	if !e.store {
		return entry{}, unix.ENOENT
	}
	return e, nil
}

// findSingle looks up name in a mount of one store.
func (m *mount) findSingle(dir place, name string) (entry, error) {
	if name != m.single {
		return entry{}, unix.ENOENT
	}
	e := entry{backing: m.singleBacking}
	if err := m.statAt(dir, &e); err != nil {
		return entry{}, err
	}
	if e.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return entry{}, unix.ENOENT // Something else has taken its place.
	}
	err := m.probe(dir, &e)
	e.store = true
	return e, err
}

// asItself tells whether what has backing name e.backing appears under that name.
func (m *mount) asItself(dir place, e *entry) (bool, error) {
	name, ok := stripped(e.backing)
	if !ok {
		return true, nil
	}
	if err := m.probe(dir, e); err != nil || !e.store {
		return err == nil, err
	}
	other := entry{backing: name}
	if m.statAt(dir, &other) != nil {
		return false, nil
	}
	return m.asItself(dir, &other)
}

// statAt fills e.st for e.backing in dir.
func (m *mount) statAt(dir place, e *entry) error {
	return unix.Fstatat(dir.fd, e.backing, &e.st, unix.AT_SYMLINK_NOFOLLOW)
}
