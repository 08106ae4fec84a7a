package uffdmap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// An error matches in the program what it matched in the pager, and has the same
// text.
func TestWireErrors(t *testing.T) {
	damage := &store.DamageError{Path: "/a/b.lazy", Part: "frame 7", Off: 0x123, Detail: "checksum", Plain: store.Range{Off: 7, Len: 8}}
	kinds := []error{
		store.ErrDamaged, store.ErrNotStore, store.ErrVersion, store.ErrLocked, store.ErrReadOnly,
		uffd.ErrPrivilege, uffd.ErrUnsupported, os.ErrClosed, os.ErrNotExist, errMoved, unix.ENOSPC, unix.EIO,
	}
	for _, err := range append(kinds, damage, unix.ENOENT, fmt.Errorf("read: %w", errors.Join(damage, unix.EIO))) {
		in, out := connected(t)
		sent := fmt.Errorf("sync /a/b.lazy: %w", err)
		if err := in.send(message{Verb: verbReply, Err: newWireError(sent)}); err != nil {
			t.Fatal(err)
		}
		m, rerr := out.receive()
		if rerr != nil {
			t.Fatal(rerr)
		}
		got := m.Err.asError()
		if got.Error() != sent.Error() {
			t.Errorf("text is %q, want %q", got, sent)
		}
		for _, kind := range kinds {
			if errors.Is(got, kind) != errors.Is(sent, kind) {
				t.Errorf("%v matches %v: %t, want %t", got, kind, errors.Is(got, kind), errors.Is(sent, kind))
			}
		}
		var d *store.DamageError
		if errors.As(sent, &d) && (!errors.As(got, &d) || *d != *damage) {
			t.Errorf("%v has lost its DamageError: %+v", got, d)
		}
	}
	if err := newWireError(nil).asError(); err != nil {
		t.Errorf("no error became %v", err)
	}
}

// The longest message passes, with descriptors that go to no program which the receiver
// starts, and the end of the other side is io.EOF.
func TestWireLongest(t *testing.T) {
	in, out := connected(t)
	want := make([]Range, maxRanges)
	for i := range want {
		want[i] = Range{1<<60 + int64(i), 1 << 60}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := in.send(message{Verb: verbPrefetch, Ranges: want, fds: []int{int(null.Fd()), int(null.Fd())}}); err != nil {
		t.Fatal(err)
	}
	m, err := out.receive()
	if err != nil || !slices.Equal(m.Ranges, want) || len(m.fds) != 2 {
		t.Errorf("received %d ranges and %d descriptors (%v), want %d and 2", len(m.Ranges), len(m.fds), err, len(want))
	}
	for _, fd := range append(m.fds, in.fd, out.fd) {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor flags %#x (%v), want close-on-exec", flags, err)
		}
	}
	closeAll(m.fds)
	unix.Shutdown(in.fd, unix.SHUT_WR)
	if _, err := out.receive(); err != io.EOF {
		t.Errorf("after the other side's end: %v, want io.EOF", err)
	}
}

// Who dies without having read all is no error, either.
func TestWireReset(t *testing.T) {
	in, out, err := socketPair()
	must(t, "make a socket pair", err)
	defer unix.Close(in)
	c := &conn{fd: in}
	must(t, "send", c.send(message{Verb: verbReply}))
	unix.Close(out)
	if _, err := c.receive(); err != io.EOF {
		t.Errorf("receive: %v, want io.EOF", err)
	}
}

func connected(t *testing.T) (in, out *conn) {
	t.Helper()
	a, b, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll([]int{a, b}) })
	return &conn{fd: a}, &conn{fd: b}
}
