package uffd

import (
	"cmp"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Faults arrive several in one Read, with page, cause and thread; after a Wake that
// brought nothing they arrive again; filling ends them, whichever way, without another.
func TestFaults(t *testing.T) {
	u, m, src := open(t, FeatureThreadID), anon(t, 3), filled(t, 3)
	register(t, u, m, ModeMissing|ModeWP)
	_, err := u.Copy(m.at(2), src, page, CopyWP)
	must(t, "copy", err)

	done := []<-chan error{populate(m, 0, false), populate(m, 1, true), populate(m, 2, true)}
	want := []FaultFlags{0, FaultWrite, FaultWrite | FaultWP}
	for _, round := range []string{"first", "after Wake"} {
		if round != "first" {
			must(t, "wake", u.Wake(m.addr, 3*page))
		}
		events := readEvents(t, u, 3)
		slices.SortFunc(events, func(a, b Event) int { return cmp.Compare(a.Addr, b.Addr) })
		for i, e := range events {
			if e.Kind != EventFault || e.Addr != m.at(i) || e.Flags != want[i] || e.Tid == 0 {
				t.Errorf("%s: event %d is %+v, want a fault at %#x with flags %d", round, i, e, m.at(i), want[i])
			}
		}
	}
	_, err = u.Copy(m.at(0), src, 1*page, 0)
	must(t, "copy", err)
	_, err = u.Zero(m.at(1), page, false)
	must(t, "zero", err)
	must(t, "lift", u.WriteProtect(m.at(2), page, false, false))
	for i, d := range done {
		if err := <-d; err != nil {
			t.Errorf("page %d: %v, want the fault served", i, err)
		}
	}
	if m.b[0] != 3 || m.b[page] != 0 || m.b[2*page] != 3 {
		t.Errorf("pages hold %d %d %d, want 3 0 3", m.b[0], m.b[page], m.b[2*page])
	}
}

// A wake that is held back by the flags leaves the waiters asleep.
func TestDontWake(t *testing.T) {
	u, m, src := open(t, 0), anon(t, 3), filled(t, 3)
	register(t, u, m, ModeMissing|ModeWP)
	_, err := u.Copy(m.at(2), src, page, 0)
	must(t, "copy", err)
	must(t, "protect", u.WriteProtect(m.at(2), page, true, true)) // wakes nobody anyway
	done := []<-chan error{populate(m, 0, false), populate(m, 1, false), populate(m, 2, true)}
	readEvents(t, u, 3)
	_, err = u.Copy(m.at(0), src, page, CopyDontWake)
	must(t, "copy", err)
	must(t, "fill", u.Fill(m.at(0), src, page, CopyDontWake))
	_, err = u.Zero(m.at(1), page, true)
	must(t, "zero", err)
	must(t, "lift", u.WriteProtect(m.at(2), page, false, true))
	if n := waiters(t, u); n != 3 {
		t.Errorf("%d threads wait, want 3", n)
	}
	// Fill finds the page present, which is no reason to leave its waiter asleep.
	must(t, "fill", u.Fill(m.at(0), src, page, 0))
	must(t, "wake", u.Wake(m.at(1), 2*page))
	for _, d := range done {
		must(t, "populate", <-d)
	}
}

// With nothing to report Read does not wait.
func TestReadEmpty(t *testing.T) {
	u := open(t, 0)
	if n, err := u.Read(make([]Event, 1)); n != 0 || err != unix.EAGAIN {
		t.Errorf("read: %d, %v, want 0, EAGAIN", n, err)
	}
	if n, err := u.Read(nil); n != 0 || err != nil {
		t.Errorf("read into nothing: %d, %v, want 0, nil", n, err)
	}
}

// With FeatureSIGBUS a touch of an absent page, and with FeaturePoison a touch
// of a poisoned one, is a panic that a goroutine can recover, with the address.
func TestTraps(t *testing.T) {
	for _, shape := range []struct {
		name string
		m    mem
	}{{"private", anon(t, 2)}, {"shared", shared(t, 2)}} {
		u, m := open(t, FeatureSIGBUS|FeaturePoison), shape.m
		register(t, u, m, ModeMissing)
		_, err := u.Poison(m.at(1), page)
		must(t, "poison", err)
		if v, addr := touch(m.b, 17); addr != m.at(0)+17 {
			t.Errorf("%s: touch of an absent page gives %d, trap at %#x, want %#x", shape.name, v, addr, m.at(0)+17)
		}
		if v, addr := touch(m.b, page+17); addr != m.at(1)+17 {
			t.Errorf("%s: touch of a poisoned page gives %d, trap at %#x, want %#x", shape.name, v, addr, m.at(1)+17)
		}
	}
}

// Under USER_MODE_ONLY a system call on an absent page fails with EFAULT; it
// neither hangs nor sees zeros.
func TestUserModeOnlyCalls(t *testing.T) {
	t.Setenv(MaskEnv, "dev,syscall")
	u, m := open(t, 0), anon(t, 1)
	register(t, u, m, ModeMissing)
	var p [2]int
	must(t, "pipe", unix.Pipe(p[:]))
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	if n, err := unix.Write(p[1], m.b[:8]); err != unix.EFAULT {
		t.Errorf("write of an absent page: %d, %v, want EFAULT", n, err)
	}
}
