// Package load puts load on something that is read and written at offsets, and
// measures it in the manner of fio: with fio's options, its patterns and its
// output, so that figures can be laid beside fio's and read by tools for it.
//
// Run runs the jobs that Options describe. A Report turns their Results into
// fio's JSON document or into the text that fio prints.
package load

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Target is what is loaded. Its methods are called by several jobs at once.
type Target interface {
	io.ReaderAt
	io.WriterAt

	// Sync makes durable what was written, or as durable as the target can.
	Sync() error
}

// A Progress tells how far a run has come.
type Progress struct {
	IOs     int64
	Bytes   int64         // read and written
	Elapsed time.Duration // since the run began
	Part    float64       // of the whole run, 0 to 1
}

// Left is the time until the end of the run if it goes on as before, 0 when that
// can't be told.
func (p Progress) Left() time.Duration {
	if p.Part <= 0 || p.Part > 1 {
		return 0
	}
	return time.Duration(float64(p.Elapsed) * (1 - p.Part) / p.Part)
}

// progressPause is the time between two calls of a progress function.
const progressPause = 200 * time.Millisecond

// Run runs the jobs of o on the target and returns a result for each. o must have
// passed Check. progress, when not nil, is called now and then from one goroutine.
//
// When ctx is done the jobs end after the operation they are at. When one fails
// all end. Either way the results say what was measured until then, beside the
// error. Wrong bytes are a *VerifyError.
func Run(ctx context.Context, target Target, o Options, progress func(Progress)) ([]Result, error) {
	var stop atomic.Bool
	defer context.AfterFunc(ctx, func() { stop.Store(true) })()
	jobs := make([]*job, o.Jobs)
	for i := range jobs {
		jobs[i] = newJob(target, &o, i, &stop)
	}
	ended := make(chan struct{})
	var watching sync.WaitGroup
	start := time.Now()
	if progress != nil {
		watching.Go(func() { watch(jobs, start, progress, ended) })
	}
	var running sync.WaitGroup
	for _, j := range jobs {
		running.Go(func() {
			// A thread of its own has its own processor times and faults.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			j.run(start)
		})
	}
	running.Wait()
	close(ended)
	watching.Wait()

	results := make([]Result, len(jobs))
	var errs []error
	for i, j := range jobs {
		results[i] = j.result
		errs = append(errs, j.result.Err)
	}
	if err := errors.Join(errs...); err != nil {
		return results, err
	}
	return results, ctx.Err()
}

// watch calls progress until ended is closed.
func watch(jobs []*job, start time.Time, progress func(Progress), ended <-chan struct{}) {
	tick := time.NewTicker(progressPause)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		p := Progress{Elapsed: time.Since(start)}
		for _, j := range jobs {
			ios := j.ios.Load()
			p.IOs += ios
			p.Bytes += ios * j.o.Block
			p.Part += j.part(ios, p.Elapsed) / float64(len(jobs))
		}
		progress(p)
	}
}
