package uffdmap

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// A Private mapping without tracking holds what is written to it, the store does
// not; and where pages would be lost it is refused.
func TestNoTracking(t *testing.T) {
	plain := bytes.Repeat([]byte{1, 2, 3, 4}, 64<<10)
	path := newStore(t, plain, 16<<10)
	const at = 5*(16<<10) + 100
	want := bytes.Clone(plain)
	want[at], want[len(want)-1] = 9, 9

	m := mustMap(t, path, Options{Private: true, NoTracking: true})
	m.Bytes()[at], m.Bytes()[len(want)-1] = 9, 9
	if !bytes.Equal(m.Bytes(), want) {
		t.Error("the served mapping does not hold what was written")
	}
	if s := m.Stats(); s.Writes != 0 {
		t.Errorf("%d faults of writes, want none", s.Writes)
	}
	if _, err := m.Snapshot(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Snapshot: %v, want EINVAL", err)
	}
	must(t, "protect", m.Protect())
	must(t, "close", m.Close())

	v := openView(t, path, Options{Private: true, NoTracking: true})
	for _, off := range []int64{at, int64(len(want)) - 1} {
		_, err := v.WriteAt([]byte{9}, off)
		must(t, "write", err)
	}
	got := make([]byte, len(want))
	_, err := v.ReadAt(got, 0)
	must(t, "read", err)
	if !bytes.Equal(got, want) {
		t.Error("the view does not hold what was written")
	}
	must(t, "close", v.Close())

	m = mustMap(t, path, Options{})
	if !bytes.Equal(m.Bytes(), plain) {
		t.Error("the store has changed")
	}
	must(t, "close", m.Close())
	for _, o := range []Options{
		{NoTracking: true},
		{NoTracking: true, Writable: true},
		{NoTracking: true, Private: true, MemoryLimit: 1 << 20},
	} {
		if _, err := Map(path, o); !errors.Is(err, unix.EINVAL) {
			t.Errorf("Map with %+v: %v, want EINVAL", o, err)
		}
		if _, err := Open(path, o); !errors.Is(err, unix.EINVAL) {
			t.Errorf("Open with %+v: %v, want EINVAL", o, err)
		}
	}
}

// Resident lists the frames that were asked for, and no evicted ones.
func TestViewResident(t *testing.T) {
	const frame = 16 << 10
	path := newStore(t, bytes.Repeat([]byte{1}, 20*frame-5), frame)
	v := openView(t, path, Options{MemoryLimit: 4 * frame})
	for _, n := range []int64{3, 4, 9, 19} {
		s, err := v.View(n*frame, 1)
		must(t, "view", err)
		s.Release()
	}
	want := []Range{{3 * frame, 2 * frame}, {9 * frame, frame}, {19 * frame, frame - 5}}
	if got := slices.Collect(v.Resident()); !slices.Equal(got, want) {
		t.Errorf("resident is %v, want %v", got, want)
	}
	s, err := v.View(12*frame, 1)
	must(t, "view", err)
	s.Release()
	total := int64(0)
	for r := range v.Resident() {
		total += r.Len
	}
	if total > 4*frame {
		t.Errorf("%d bytes are resident, the limit is %d", total, 4*frame)
	}
	must(t, "close", v.Close())
	if got := slices.Collect(v.Resident()); got != nil {
		t.Errorf("resident after Close is %v", got)
	}
}
