package uffdmap

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
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

// A frame that was spilled takes no room on the disk when the store has it.
func TestForgetSpilled(t *testing.T) {
	w, m, _ := newLoneWorker(t, spec{Writable: true, Limit: 1})
	w.answers(t, m, uffd.FaultWrite, 3)
	m.Limit = pageSize
	m.makeRoom(w.scratch)
	var st unix.Stat_t
	must(t, "look at the spill file", unix.Fstat(m.spill, &st))
	if !m.table.spilled.get(3) || st.Blocks == 0 {
		t.Fatalf("the spill file has %d blocks, want frame 3", st.Blocks)
	}
	must(t, "sync", m.sync())
	must(t, "look at the spill file", unix.Fstat(m.spill, &st))
	if m.table.spilled.get(3) || st.Blocks != 0 {
		t.Errorf("the spill file has %d blocks after a sync, want none", st.Blocks)
	}
}
