package fs

import (
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// syncers is how many files are synced at once: the disk and the journal of the
// backing file system take several syncs in one go.
const syncers = 8

// waitForRoom returns when no more files wait for their sync than may.
func (t *files) waitForRoom() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.waiting > t.limit && !t.closed {
		select {
		case t.full <- struct{}{}:
		default:
		}
		t.room.Wait()
	}
}

// run syncs what was written longer than after ago, and what waits when too much
// does, until stop is closed.
func (t *files) run(after time.Duration, stop <-chan struct{}) {
	tick := time.NewTicker(max(after/5, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			t.syncOlder(after)
		case <-t.full:
			t.closeWaiting()
		}
	}
}

// syncOlder syncs all files with writes older than after, and closes those of them
// that nobody uses, which syncs them, too.
func (t *files) syncOlder(after time.Duration) {
	t.each(func(f *file) error {
		f.times.Lock()
		old := !f.since.IsZero() && time.Since(f.since) >= after
		f.times.Unlock()
		switch {
		case !old:
		case t.idle(f):
			t.close(f)
		default:
			t.syncUsed(f.shown)
		}
		return nil
	})
}

// closeWaiting closes all files that nobody uses.
func (t *files) closeWaiting() {
	t.each(t.close)
}

// syncUsed syncs a file that has handles.
func (t *files) syncUsed(s shown) {
	f := t.get(s)
	if f == nil {
		return
	}
	defer t.release(f)
	if err := f.sync(); err != nil {
		f.fail(err)
	}
	f.settle()
}

// closeAll closes everything durably, handles in use or not, and keeps anything
// from being opened. The mount has ended. Its error is also that of files that were
// closed before.
func (t *files) closeAll() error {
	t.mu.Lock()
	t.closed = true
	t.room.Broadcast()
	t.mu.Unlock()
	err := t.each(func(f *file) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.closeStore()
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.failed, err)
}

// each calls do for every open file, several at once, and joins the errors.
func (t *files) each(do func(*file) error) error {
	t.mu.Lock()
	all := slices.Collect(maps.Values(t.open))
	t.mu.Unlock()
	errs := make([]error, len(all))
	var g errgroup.Group
	g.SetLimit(syncers)
	for i, f := range all {
		g.Go(func() error {
			errs[i] = do(f)
			return nil
		})
	}
	g.Wait()
	return errors.Join(errs...)
}
