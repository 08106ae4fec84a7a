package uffdmap

import (
	"time"

	"lazyfs/store"
)

// A runReader is a source that reads neighbouring frames at once.
type runReader interface {
	ReadFrames(n int64, dst []byte) (done int, zeros uint64, err error)
}

// maxReadRun is how many frames readFrames reads at most.
const maxReadRun = store.MaxReadFrames

// readFrames fills dst with frames of src from n on. After the time until, unless
// that is zero, it begins no more. It returns how many it read before the error,
// and a bit for each that is zero: its part of dst is as it was.
func readFrames(src store.Source, n int64, dst []byte, until time.Time) (done int, zeros uint64, err error) {
	size := src.FrameSize()
	runs, together := src.(runReader)
	for done*size < len(dst) && (done == 0 || until.IsZero() || time.Now().Before(until)) {
		if together {
			some, z, err := runs.ReadFrames(n+int64(done), dst[done*size:])
			zeros |= z << done
			if done += some; err == nil {
				continue
			}
		}
		zero, err := src.ReadFrame(n+int64(done), dst[done*size:(done+1)*size])
		if err != nil {
			return done, zeros, err
		}
		if zero {
			zeros |= 1 << done
		}
		done++
	}
	return done, zeros, nil
}
