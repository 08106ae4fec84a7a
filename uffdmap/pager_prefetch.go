package uffdmap

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// prefetch makes all frames that ranges touch resident, in the order of their
// offsets and on all cores.
func (m *served) prefetch(ranges []Range) error {
	var runs []frameRun
	for _, r := range ranges {
		if r.Off < 0 || r.Len < 0 || r.Off > m.Size || r.Len > m.Size-r.Off {
			return fmt.Errorf("prefetch %#x bytes at %#x: mapping ends at %#x: %w", r.Len, r.Off, m.Size, unix.EINVAL)
		}
		if r.Len > 0 {
			runs = append(runs, frameRun{r.Off / m.FrameSize, (r.End()-1)/m.FrameSize + 1})
		}
	}
	return inParallel(cutRuns(joinRuns(runs), max(1, maxRun/m.FrameSize)), m.prefetchRun)
}

// prefetchRun makes the frames of r resident, in what memory buf gives.
func (m *served) prefetchRun(buf []byte, r frameRun) error {
	for n := r.first; n < r.end; {
		next, err := m.fillRun(buf, n, r.end)
		if err != nil {
			return err
		}
		if next == n && m.settled(n) {
			next++
		}
		n = next
		m.makeRoom(buf)
	}
	return nil
}

// settled waits until nobody is at frame n, and says whether it is resident. If it is not,
// it can be brought in then.
func (m *served) settled(n int64) bool {
	m.locks.lock(n)
	defer m.locks.unlock(n)
	complete := m.complete(m.extent(n))
	if !complete {
		m.awaitStore(n)
	}
	return complete
}
