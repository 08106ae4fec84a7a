package uffd

import (
	"testing"

	"golang.org/x/sys/unix"
)

// tracked maps pages whose writes are tracked asynchronously, the first n
// present and clean.
func tracked(t *testing.T, pages, n int) (*FD, mem) {
	u, m, src := open(t, FeatureSIGBUS|FeatureWPAsync), anon(t, pages), filled(t, 1)
	register(t, u, m, ModeMissing|ModeWP)
	for i := range n {
		_, err := u.Copy(m.at(i), src, page, CopyWP)
		must(t, "copy", err)
	}
	return u, m
}

// Every state of a page has the categories that write tracking relies on: above
// all, an absent page looks WRITTEN, and only PRESENT tells it apart.
func TestCategories(t *testing.T) {
	u, m := tracked(t, 7, 4)
	m.b[1*page] = 2 // written
	m.b[2*page] = 2
	must(t, "madvise", unix.Madvise(m.b[2*page:3*page], unix.MADV_DONTNEED))
	must(t, "protect", u.WriteProtect(m.at(4), page, true, false)) // a marker
	_, err := u.Zero(m.at(5), page, false)
	must(t, "zero", err)
	_, err = u.Poison(m.at(6), page)
	must(t, "poison", err)

	const all = PageWPAllowed | PageWritten | PagePresent | PageSwapped | PageZero
	want := []Categories{
		0: PageWPAllowed | PagePresent,
		1: PageWPAllowed | PagePresent | PageWritten,
		2: PageWPAllowed | PageWritten,
		3: PageWPAllowed | PagePresent,
		4: PageWPAllowed | PageSwapped,
		5: PageWPAllowed | PagePresent | PageWritten | PageZero,
		6: PageWPAllowed | PageSwapped | PageWritten,
	}
	fd := pagemap(t)
	for i := range want {
		var out [1]Region
		n, _, err := PagemapScan(fd, Scan{Start: m.at(i), End: m.at(i + 1), AnyOf: all, Return: all}, out[:])
		must(t, "scan", err)
		if n != 1 || out[0].Categories != want[i] || out[0].Start != m.at(i) || out[0].End != m.at(i+1) {
			t.Errorf("page %d: %d regions, %+v, want categories %#x", i, n, out[0], want[i])
		}
	}
}

// A scan that protects what it reports sees each write once, and the page still
// takes writes without anybody's help.
func TestCollectAndRearm(t *testing.T) {
	_, m := tracked(t, 8, 8)
	fd := pagemap(t)
	scan := Scan{Start: m.addr, End: m.at(8), Flags: ScanWPMatching | ScanCheckWPAsync, Mask: PageWritten, AnyOf: PagePresent | PageSwapped}
	collect := func() (pages int) {
		var out [8]Region
		n, stopped, err := PagemapScan(fd, scan, out[:])
		must(t, "scan", err)
		if stopped != scan.End {
			t.Fatalf("scan stopped at %#x, want %#x", stopped, scan.End)
		}
		for _, r := range out[:n] {
			pages += int(r.End-r.Start) / page
		}
		return pages
	}
	for _, written := range [][]int{{}, {0}, {3, 4, 7}, {3}, {}} {
		for _, i := range written {
			m.b[i*page]++
		}
		if got := collect(); got != len(written) {
			t.Errorf("%d pages written, scan reports %d", len(written), got)
		}
	}
}

// With room for one region the scan stops behind it, and goes on from there.
func TestScanContinues(t *testing.T) {
	_, m := tracked(t, 6, 6)
	for _, i := range []int{0, 2, 3, 5} {
		m.b[i*page] = 2
	}
	fd := pagemap(t)
	var got []int
	for at := m.addr; at < m.at(6); {
		var out [1]Region
		n, stopped, err := PagemapScan(fd, Scan{Start: at, End: m.at(6), Mask: PageWritten}, out[:])
		must(t, "scan", err)
		if n == 1 {
			got = append(got, int(out[0].Start-m.addr)/page, int(out[0].End-m.addr)/page)
		}
		at = stopped
	}
	want := []int{0, 1, 2, 4, 5, 6}
	if len(got) != len(want) {
		t.Fatalf("regions %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("regions %v, want %v", got, want)
		}
	}
}

// A range that is not tracked asynchronously is refused instead of found clean.
func TestScanChecks(t *testing.T) {
	u, m := open(t, 0), anon(t, 1)
	register(t, u, m, ModeMissing|ModeWP)
	_, _, err := PagemapScan(pagemap(t), Scan{Start: m.addr, End: m.at(1), Flags: ScanCheckWPAsync, Mask: PageWritten}, make([]Region, 1))
	if err != unix.EPERM {
		t.Errorf("scan of a synchronous range: %v, want EPERM", err)
	}
}
