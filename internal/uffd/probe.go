package uffd

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A Report says what this kernel offers to this process.
type Report struct {
	Err          error    // why there is no userfaultfd at all; an *OpenError
	Way          string   // the way to it: "/dev/userfaultfd", …
	UserModeOnly bool     // system calls on absent pages fail with EFAULT
	Features     Features // what can be switched on
	PagemapScan  bool
}

// Probe asks the kernel. It leaves nothing open.
func Probe() Report {
	var r Report
	if fd, err := OpenPagemap(0); err == nil {
		r.PagemapScan = true
		unix.Close(fd)
	}
	var failed OpenError
	for _, way := range ways {
		offered, err := query(way.open)
		if err == nil {
			r.Way, r.UserModeOnly, r.Features = way.name, way.userModeOnly, offered
			return r
		}
		failed.Tries = append(failed.Tries, Try{way.name, err})
	}
	r.Err = &failed
	return r
}

// String is the report on one line.
func (r Report) String() string {
	if r.Err != nil {
		return r.Err.Error()
	}
	scan := "without PAGEMAP_SCAN"
	if r.PagemapScan {
		scan = "with PAGEMAP_SCAN"
	}
	return fmt.Sprintf("%s with %v, %s", r.Way, r.Features, scan)
}
