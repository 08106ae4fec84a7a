package fs

import (
	"time"

	"golang.org/x/sys/unix"
)

// settle gives the backing inode the mtime that users see.
func (f *file) settle() {
	f.times.Lock()
	defer f.times.Unlock()
	if !f.owned || f.settled {
		return
	}
	f.giveBack()
	var st unix.Stat_t
	if err := unix.Fstat(f.path, &st); err != nil {
		return
	}
	if st.Mtim != f.mtime {
		ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, f.mtime}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, procPath(f.path), ts, 0); err != nil {
			f.m.logOnce("%s: set times: %v", f.name, err)
			return
		}
	}
	f.settled = true
}

// unsettle notes that the store may have written to the backing inode. It is called
// after that: somebody else may settle it meanwhile.
func (f *file) unsettle() {
	f.times.Lock()
	f.settled = false
	f.times.Unlock()
}

// showTimes puts the times and the mode that users see into st.
func (f *file) showTimes(st *unix.Stat_t) {
	f.times.Lock()
	defer f.times.Unlock()
	if f.owned {
		st.Mtim, st.Ctim = f.mtime, f.ctime
		st.Mode |= f.privileges.bits
	}
}

// touched notes that a user changed the backing inode itself: its mode, owner,
// names, extended attributes or times.
func (f *file) touched() {
	f.times.Lock()
	defer f.times.Unlock()
	f.ctime = fileNow()
}

// takeTimes takes over the times of the last change, which the kernel tells. It returns
// false if they are a user's choice, or f has no times of its own.
func (f *file) takeTimes(mtime, ctime unix.Timespec) bool {
	f.times.Lock()
	defer f.times.Unlock()
	switch {
	case !f.owned:
		return false
	case f.mtime == mtime:
		f.ctime = ctime
		return true
	case !f.untold:
		return false
	}
	f.mtime, f.ctime, f.untold, f.settled = mtime, ctime, false, false
	return true
}

// setMtime has set give the backing inode the mtime t, which a user wants. A settle
// comes before or after that.
func (f *file) setMtime(t unix.Timespec, set func() error) error {
	f.times.Lock()
	defer f.times.Unlock()
	if err := set(); err != nil {
		return err
	}
	f.mtime, f.untold, f.settled = t, false, false
	return nil
}

// wrotePlain notes that the backing file fd of f, which is no store, was written to from
// the kernel's pages, and has the time of that.
func (f *file) wrotePlain(fd int) {
	f.times.Lock()
	defer f.times.Unlock()
	f.giveBack()
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil {
		f.mtime, f.untold = st.Mtim, true
	}
}

// settlePlain gives a backing file that is no store the mtime that users see, where the
// kernel has handed over all after it had told that, and nobody else has changed it.
func (h *handle) settlePlain() {
	f := h.file
	if h.fd < 0 {
		return
	}
	f.times.Lock()
	defer f.times.Unlock()
	var st unix.Stat_t
	if !f.untold || unix.Fstat(h.fd, &st) != nil || st.Mtim != f.mtime {
		return
	}
	f.untold = false
	h.node.mu.Lock()
	seen := h.node.told.mtime
	h.node.mu.Unlock()
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, seen}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, procPath(f.path), ts, 0); err != nil {
		f.m.logOnce("%s: set times: %v", f.name, err)
	}
}

// since is how long ago ts was.
func since(ts unix.Timespec) time.Duration { return time.Since(time.Unix(ts.Unix())) }
