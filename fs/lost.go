package fs

import "fmt"

// lose notes that something was refused that the kernel has handed over from its pages,
// and holds for written.
func (f *file) lose(err error) {
	f.lost.Store(true)
	f.times.Lock()
	defer f.times.Unlock()
	f.losses++
	f.loss = err
}

// newLoss is the error of the last loss, if h was not told yet. The kernel tells it to who
// syncs the file, but of those who close it only to the first, who may have just read.
func (h *handle) newLoss() error {
	h.file.times.Lock()
	defer h.file.times.Unlock()
	if h.losses == h.file.losses {
		return nil
	}
	h.losses = h.file.losses
	return h.file.loss
}

// keepLoss has the end of the mount tell of a loss that this process has not told who wrote
// by h. What has no name left is none. What the kernel has told may be told again.
func (m *mount) keepLoss(h *handle) {
	if !h.writes {
		return
	}
	if err := h.newLoss(); err != nil && !h.file.nameless() {
		m.files.fail(fmt.Errorf("%s: %w", h.file.backingPath(), err))
	}
}

// forgetLost makes the kernel forget f, which nobody uses now, if something of it could
// not be written: until then the kernel shows what was to be there.
func (m *mount) forgetLost(f *file) {
	if !f.lost.Load() {
		return
	}
	// Where somebody uses it again this is done when he does not any more.
	if n := m.nodes.shownAs(f.shown); n == nil || m.nodes.replace(n, &m.files) {
		f.lost.Store(false)
	}
}
