package store

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrDamaged is matched by every *DamageError.
	ErrDamaged = errors.New("damaged store")
	// ErrNotStore says that a file has no store's magic.
	ErrNotStore = errors.New("not a page store")
	// ErrVersion says that a store uses a version or features that this
	// package does not know; the text names them.
	ErrVersion = errors.New("store needs a newer lazyfs")
	// ErrLocked says that another writer holds the store; the text names it.
	ErrLocked = errors.New("store is locked")
	// ErrReadOnly says that a change was asked of a Store opened read-only.
	ErrReadOnly = errors.New("store is open read-only")
	// ErrTooLarge says that an offset or size lies above MaxSize.
	ErrTooLarge = errors.New("store would be larger than 1 EiB")
)

// errLastGeneration says that no commit of a store can be numbered any more (FORMAT §7).
var errLastGeneration = errors.New("store has no generation left")

// A Range is Len bytes of plain data from Off.
type Range struct{ Off, Len int64 }

// A DamageError is one violation of FORMAT.md. It matches ErrDamaged.
type DamageError struct {
	Path   string // name of the store file as it was opened; empty for OpenBytes
	Part   string // "superblock", "index", "log" or "frame 7"
	Off    int64  // offset in the store file, in bytes
	Detail string // what was found, and what was wanted
	Plain  Range  // the plain bytes that can't be read; empty when not known
}

// Error says what is damaged, where, what was found and what was wanted.
func (e *DamageError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("damaged store: %s at offset %#x: %s", e.Part, e.Off, e.Detail)
	}
	return fmt.Sprintf("damaged store: %s: %s at offset %#x: %s", e.Path, e.Part, e.Off, e.Detail)
}

// Is reports whether target is ErrDamaged.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

func damagef(part string, off int64, format string, args ...any) *DamageError {
	return &DamageError{Part: part, Off: off, Detail: fmt.Sprintf(format, args...)}
}

// withPath names the store in a damage that was found by code that knows only
// bytes.
func withPath(err error, path string) error {
	if d, ok := err.(*DamageError); ok && d != nil && d.Path == "" {
		d.Path = path
	}
	return err
}

// during says which act on the store at path err ended. A damage names the store itself.
func during(act, path string, err error) error {
	if d, ok := withPath(err, path).(*DamageError); ok {
		return d
	}
	return fmt.Errorf("%s %s: %w", act, path, err)
}

// blame adds to a damage the store's path and the plain bytes of frame n.
func (s *Store) blame(err error, n int64) error {
	var d *DamageError
	if errors.As(err, &d) {
		d.Path = s.Path()
		if d.Plain == (Range{}) {
			d.Plain = plainRange(span{n, n + 1}, s.shift)
		}
		d.Plain.Off = min(d.Plain.Off, s.size)
		d.Plain.Len = min(d.Plain.Len, s.size-d.Plain.Off)
	}
	return err
}

// plainRange are the plain bytes of frames of 1<<shift bytes, as far as any store has them.
func plainRange(frames span, shift uint8) Range {
	from, to := min(frames.from, MaxSize>>shift), min(frames.to, MaxSize>>shift)
	return Range{from << shift, (to - from) << shift}
}
