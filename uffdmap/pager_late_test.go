package uffdmap

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// newLate makes a lateStore that is open for reading only, and what it holds.
func newLate(t *testing.T) (*lateStore, []byte) {
	data := content(1<<20, 60)
	path := pack(t, data, store.CreateOptions{})
	early, err := store.Open(path, store.Options{})
	must(t, "open", err)
	m := &spec{Path: path, Size: early.Size(), FrameSize: int64(early.FrameSize()), Writable: true}
	return &lateStore{spec: m, early: early, opened: make(chan struct{})}, data
}

// openNow ends the opening of l.
func openNow(t *testing.T, l *lateStore) {
	s, err := store.Open(l.spec.Path, store.Options{Writable: true})
	must(t, "open for writing", err)
	t.Cleanup(func() { s.Close() })
	l.store = s
	close(l.opened)
}

// While a store is being opened for writing its frames can be read; what a reader
// can't read is waited for.
func TestLateStore(t *testing.T) {
	l, data := newLate(t)
	buf, size := make([]byte, 2*l.FrameSize()), l.FrameSize()
	if _, err := l.ReadFrame(3, buf[:size]); err != nil || !bytes.Equal(buf[:size], data[3*size:4*size]) {
		t.Errorf("frame is wrong, or %v", err)
	}
	if done, _, err := l.ReadFrames(5, buf); err != nil || done != 2 || !bytes.Equal(buf, data[5*size:7*size]) {
		t.Errorf("%d frames are read, or wrong, or %v", done, err)
	}
	must(t, "take the reader away", l.early.Close())
	if done, _, err := l.ReadFrames(5, buf); err == nil {
		t.Errorf("%d frames are read from a closed store", done)
	}
	begun, read := make(chan struct{}), make(chan error)
	go func() {
		close(begun)
		_, err := l.ReadFrame(7, buf[:size])
		read <- err
	}()
	<-begun
	openNow(t, l)
	if err := <-read; err != nil || !bytes.Equal(buf[:size], data[7*size:8*size]) {
		t.Errorf("frame is wrong, or %v", err)
	}
	if done, _, err := l.ReadFrames(9, buf); err != nil || done != 2 || !bytes.Equal(buf, data[9*size:11*size]) {
		t.Errorf("%d frames are read, or wrong, or %v", done, err)
	}
}

// A store that can't be opened for writing gives its error to who waits.
func TestLateStoreFails(t *testing.T) {
	l, _ := newLate(t)
	must(t, "take the reader away", l.early.Close())
	l.err = os.ErrPermission
	close(l.opened)
	if _, err := l.ReadFrame(0, make([]byte, l.FrameSize())); err != os.ErrPermission {
		t.Errorf("%v, want %v", err, os.ErrPermission)
	}
	if done, _, err := l.ReadFrames(0, make([]byte, l.FrameSize())); err == nil {
		t.Errorf("%d frames are read", done)
	}
	must(t, "close", l.Close())
}

// The reader is closed when the store is open for writing: it would keep a generation from
// being freed.
func TestLateStoreOpened(t *testing.T) {
	path := pack(t, content(1<<20, 60), store.CreateOptions{})
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, "open", err)
	must(t, "lock", unix.Flock(int(f.Fd()), unix.LOCK_EX))
	sum, err := store.Probe(f)
	must(t, "probe", err)
	m := &spec{Path: path, Size: sum.Size, FrameSize: int64(sum.FrameSize), Writable: true}
	l := openLate(m, f, true)
	defer l.Close()
	_, err = l.wait()
	must(t, "open for writing", err)
	if _, err := l.early.ReadFrame(0, make([]byte, l.FrameSize())); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read from the reader: %v, want that it is closed", err)
	}
}
