package uffdmap

import (
	"errors"
	"fmt"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// Errors that callers tell apart with errors.Is. A mapping that is closed gives
// os.ErrClosed.
var (
	// ErrDamaged says that stored bytes are not what was written. The error is
	// a *store.DamageError with path, offset, and what was found.
	ErrDamaged = store.ErrDamaged

	// ErrLocked says that another writer holds the store; the text names it.
	ErrLocked = store.ErrLocked

	// ErrVersion says that the store was written by a newer lazyfs.
	ErrVersion = store.ErrVersion

	// ErrReadOnly says that a mapping opened read-only was to be changed.
	ErrReadOnly = store.ErrReadOnly

	// ErrPrivilege says that the kernel refuses userfaultfd to this process;
	// the text names each way that was tried, and its error.
	ErrPrivilege = uffd.ErrPrivilege

	// ErrUnsupported says that this kernel lacks something; the text names it,
	// and the Linux that has it.
	ErrUnsupported = uffd.ErrUnsupported

	// ErrSnapshotLost says that the pager which held a snapshot has died. The
	// mapping goes on; another snapshot can be taken.
	ErrSnapshotLost = errors.New("snapshot lost: its pager died")

	// ErrLimit says that Options.MemoryLimit leaves no room: what is pinned,
	// and what may not be evicted, fills it.
	ErrLimit = errors.New("memory limit reached")
)

// during says which act on the store at path err ended. A damage names the store itself.
func during(act, path string, err error) error {
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%s %s: %w", act, path, err)
}
