package uffdmap

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// What a punch left in memory as zeros is put back, and what it took away stays away.
func TestPutBack(t *testing.T) {
	w, m, _ := newLoneWorker(t, spec{})
	w.answers(t, m, 0, 3)
	off, length := m.extent(3)
	want, got := make([]byte, length), make([]byte, length)
	must(t, "read", m.readMemory(want, off))
	must(t, "make zeros", pwriteFull(m.memory, make([]byte, length), off))
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	must(t, "punch", unix.Fallocate(m.memory, punch, off+pageSize, pageSize))
	clear(want[pageSize : 2*pageSize])
	if err := m.putBack(w.scratch, 3); !errors.Is(err, unix.EBUSY) {
		t.Errorf("put back: %v, want EBUSY", err)
	}
	must(t, "read again", m.readMemory(got, off))
	if !bytes.Equal(got, want) || m.present(off+pageSize) {
		t.Error("memory is not as before, or a page is there that was not")
	}
}
