package uffd

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Copy stops at the first present page: with EAGAIN and the bytes before it, or
// with EEXIST and none.
func TestCopyStopsAtPresentPage(t *testing.T) {
	for name, m := range map[string]mem{"private": anon(t, 4), "shared": shared(t, 4)} {
		u := open(t, 0)
		register(t, u, m, ModeMissing)
		one, four := filled(t, 1), anon(t, 4)
		copy(four.b, bytes.Repeat([]byte{2}, 4*page))

		_, err := u.Copy(m.at(1), one, page, 0)
		must(t, "copy page 1", err)
		if n, err := u.Copy(m.at(0), four.addr, 4*page, 0); n != page || err != unix.EAGAIN {
			t.Errorf("%s: copy over present page 1: %d, %v, want 4096, EAGAIN", name, n, err)
		}
		if n, err := u.Copy(m.at(1), four.addr, 3*page, 0); n != 0 || err != unix.EEXIST {
			t.Errorf("%s: copy at present page 1: %d, %v, want 0, EEXIST", name, n, err)
		}
	}
}

// Fill brings each page from its place in the source, protected if that is asked for,
// around those that are present, whose waiters it wakes.
func TestFillAroundPresentPages(t *testing.T) {
	for name, m := range map[string]mem{"private": anon(t, 4), "shared": shared(t, 4)} {
		u, src := open(t, FeatureWPHugetlbfsShmem), anon(t, 4)
		register(t, u, m, ModeMissing|ModeWP)
		for i := range 4 {
			src.b[i*page] = byte(10 + i)
		}
		done := populate(m, 2, false)
		readEvents(t, u, 1)
		_, err := u.Copy(m.at(2), filled(t, 1), page, CopyDontWake)
		must(t, "copy", err)
		must(t, "fill", u.Fill(m.addr, src.addr, 4*page, CopyWP))
		must(t, "populate", <-done)
		for i, want := range []byte{10, 11, 1, 13} {
			if got := m.b[i*page]; got != want {
				t.Errorf("%s: page %d holds %d, want %d", name, i, got, want)
			}
		}
		done = populate(m, 3, true)
		if e := readEvents(t, u, 1); e[0].Addr != m.at(3) || e[0].Flags&FaultWP == 0 {
			t.Errorf("%s: event %+v, want a write to protected page 3", name, e[0])
		}
		must(t, "lift", u.WriteProtect(m.at(3), page, false, false))
		must(t, "populate", <-done)
	}
}

// What can't be done says so by the errno that Copy's contract names.
func TestCopyErrors(t *testing.T) {
	u, m, elsewhere, src := open(t, 0), anon(t, 2), anon(t, 1), filled(t, 1)
	register(t, u, m, ModeMissing)
	if _, err := u.Copy(elsewhere.addr, src, page, 0); err != unix.ENOENT {
		t.Errorf("copy outside of the range: %v, want ENOENT", err)
	}
	if err := u.Fill(elsewhere.addr, src, page, 0); err != unix.ENOENT {
		t.Errorf("fill outside of the range: %v, want ENOENT", err)
	}
	if _, err := u.Copy(m.addr, src, page, CopyWP); err != unix.EINVAL {
		t.Errorf("protected copy into a range without ModeWP: %v, want EINVAL", err)
	}
	if _, err := u.Copy(m.addr, src, page-1, 0); err != unix.EINVAL {
		t.Errorf("copy of a part of a page: %v, want EINVAL", err)
	}
	if err := open(t, 0).Register(m.addr, page, ModeMissing); err == nil {
		t.Error("range registered on a second descriptor, want EBUSY")
	}
	u.Close()
	if _, err := u.Copy(m.addr, src, page, 0); err != os.ErrClosed {
		t.Errorf("copy after close: %v, want closed", err)
	}
}

// A marker, which protecting leaves on an absent page, stops all but Copy.
func TestMarkers(t *testing.T) {
	u, m, src := open(t, FeatureWPUnpopulated|FeaturePoison|FeatureMove), anon(t, 1), anon(t, 1)
	register(t, u, m, ModeMissing|ModeWP)
	must(t, "protect", u.WriteProtect(m.addr, page, true, false))
	src.b[0] = 9
	if n, err := u.Zero(m.addr, page, false); n != 0 || err != unix.EEXIST {
		t.Errorf("zero over a marker: %d, %v, want 0, EEXIST", n, err)
	}
	if n, err := u.Poison(m.addr, page); n != 0 || err != unix.EEXIST {
		t.Errorf("poison over a marker: %d, %v, want 0, EEXIST", n, err)
	}
	if n, err := u.Move(m.addr, src.addr, page, 0); n != 0 || err != unix.EEXIST {
		t.Errorf("move over a marker: %d, %v, want 0, EEXIST", n, err)
	}
	_, err := u.Copy(m.addr, src.addr, page, CopyWP)
	if must(t, "copy", err); m.b[0] != 9 {
		t.Errorf("page holds %d, want 9", m.b[0])
	}
}

// Move takes the page away from its source, Zero installs zeros.
func TestMoveAndZero(t *testing.T) {
	u, m, src := open(t, FeatureMove), anon(t, 2), anon(t, 1)
	register(t, u, m, ModeMissing)
	src.b[0] = 5
	n, err := u.Move(m.at(0), src.addr, page, 0)
	if must(t, "move", err); n != page || m.b[0] != 5 || src.b[0] != 0 {
		t.Errorf("move: %d bytes, destination %d, source %d, want 4096, 5, 0", n, m.b[0], src.b[0])
	}
	if n, err := u.Zero(m.at(1), page, false); n != page || err != nil || m.b[page] != 0 {
		t.Errorf("zero: %d, %v, byte %d, want 4096, nil, 0", n, err, m.b[page])
	}
	if n, err := u.Move(m.at(1), src.addr, page, 0); n != 0 || err != unix.EEXIST {
		t.Errorf("move over a present page: %d, %v, want 0, EEXIST", n, err)
	}
}

// The paths a fault waits for allocate nothing.
func TestNoAllocation(t *testing.T) {
	u, m, src := open(t, FeatureWPUnpopulated), anon(t, 2), filled(t, 1)
	register(t, u, m, ModeMissing|ModeWP)
	scan := pagemap(t)
	events := make([]Event, 8)
	regions := make([]Region, 8)
	for name, f := range map[string]func(){
		"copy":    func() { u.Copy(m.at(0), src, page, CopyWP) },
		"fill":    func() { u.Fill(m.at(0), src, page, CopyWP) },
		"zero":    func() { u.Zero(m.at(1), page, false) },
		"poison":  func() { u.Poison(m.at(1), page) },
		"move":    func() { u.Move(m.at(0), src, page, 0) },
		"protect": func() { u.WriteProtect(m.addr, page, true, false) },
		"wake":    func() { u.Wake(m.addr, page) },
		"read":    func() { u.Read(events) },
		"scan": func() {
			PagemapScan(scan, Scan{Start: m.addr, End: m.at(2), AnyOf: PagePresent, Return: PagePresent}, regions)
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times, want 0", name, n)
		}
	}
}
