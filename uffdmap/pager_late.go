package uffdmap

import (
	"errors"
	"os"

	"lazyfs/store"
)

// A lateStore is the store of a mapping while it is being opened for writing, and
// from then on. When a pager was killed that waits for the disk, more than once, and
// those who touch absent pages should not: what they need is read from the store as a
// reader opens it.
//
// The reader's generation is the writer's, too. The writer does not see the reader's
// pin, since both have one open file description, and gives space of that generation
// up before it has been opened: the index is new then, and a commit that was never
// durable may not count. So what the reader can't read is read from the writer.
type lateStore struct {
	spec   *spec
	early  *store.Store  // nil when nobody waits, and when it can't be opened
	opened chan struct{} // closed when what follows is set
	store  *store.Store  // nil when it can't be opened for writing
	err    error         // why
}

// openLate begins to open the store in f, which it owns. early says that it is to be
// read meanwhile.
func openLate(m *spec, f *os.File, early bool) *lateStore {
	l := &lateStore{spec: m, opened: make(chan struct{})}
	if early {
		// Without it they wait. It needs no descriptor of its own: there may be none left.
		l.early, _ = openAs(m, f, store.Options{Lent: true})
	}
	go func() {
		l.store, l.err = openAs(m, f, store.Options{Writable: true, Shared: true})
		if l.early != nil {
			l.early.Close() // While there is f. Who reads from it reads on from the other.
		}
		close(l.opened)
	}()
	return l
}

// openAs opens the store in f, which must be what the program saw, and owns f, unless
// o.Lent.
func openAs(m *spec, f *os.File, o store.Options) (*store.Store, error) {
	s, err := store.OpenFile(f, o)
	if err != nil {
		return nil, err
	}
	if s.Size() != m.Size || int64(s.FrameSize()) != m.FrameSize {
		return nil, errors.Join(m.moved(s), s.Discard())
	}
	return s, nil
}

// wait returns the store when it has been opened for writing.
func (l *lateStore) wait() (*store.Store, error) {
	<-l.opened
	return l.store, l.err
}

// reader returns what frames are read from now, nil when that has to be waited for.
func (l *lateStore) reader() *store.Store {
	select {
	case <-l.opened:
		return l.store
	default:
		return l.early
	}
}

func (l *lateStore) Size() int64    { return l.spec.Size }
func (l *lateStore) FrameSize() int { return int(l.spec.FrameSize) }

func (l *lateStore) ReadFrame(n int64, dst []byte) (zero bool, err error) {
	if s := l.reader(); s != nil {
		zero, err = s.ReadFrame(n, dst)
		if err == nil || s != l.early {
			return zero, err
		}
	}
	s, err := l.wait()
	if err != nil {
		return false, err
	}
	return s.ReadFrame(n, dst)
}

// ReadFrames reads frames as long as that needs no waiting.
func (l *lateStore) ReadFrames(n int64, dst []byte) (done int, zeros uint64, err error) {
	s := l.reader()
	if s == nil {
		return 0, 0, errLate
	}
	return s.ReadFrames(n, dst)
}

// errLate says that ReadFrame has to be waited for.
var errLate = errors.New("the store is being opened")

func (l *lateStore) ReadAt(p []byte, off int64) (int, error) {
	s, err := l.wait()
	if err != nil {
		return 0, err
	}
	return s.ReadAt(p, off)
}

func (l *lateStore) Close() error {
	s, err := l.wait()
	if err != nil {
		return nil
	}
	return s.Close()
}
