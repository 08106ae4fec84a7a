package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Result is what one job measured.
type Result struct {
	Read, Write Traffic
	Sync        Latency
	Elapsed     time.Duration
	Err         error // why the job ended before its time

	user, system             time.Duration // of a processor
	switches, majors, minors int64         // context switches, faults
}

// Traffic is what a job measured of its reads, or of its writes.
type Traffic struct {
	IOs, Bytes int64
	Short      int64         // operations that moved less than a block
	Runtime    time.Duration // of the part of the job that had them
	Latency    Latency
	KiBps      Samples // over half a second each
	IOPS       Samples
}

// sampleTime is the time that one of Samples stands for.
const sampleTime = 500 * time.Millisecond

// A job runs in a goroutine of its own. Only ios is for others until it has ended.
type job struct {
	target  Target
	o       *Options
	index   int
	stopped *atomic.Bool
	start   time.Time
	goal    int64 // operations
	buf     []byte
	ios     atomic.Int64
	result  Result

	verifying bool
	end       time.Duration // when the job ends at the latest
	written   int64         // operations that were writes
	samples   [2]sample
	nextTime  time.Duration // when samples end
}

// A sample counts what happens in half a second.
type sample struct{ ios, bytes int64 }

func newJob(t Target, o *Options, index int, stopped *atomic.Bool) *job {
	j := &job{target: t, o: o, index: index, stopped: stopped, goal: o.goal(), buf: make([]byte, o.Block)}
	scatter(j.buf, mix(o.Seed)+uint64(index))
	return j
}

// run does the job.
func (j *job) run(start time.Time) {
	j.start = start
	var before, after unix.Rusage
	unix.Getrusage(unix.RUSAGE_THREAD, &before)
	done := j.perform(newPattern(j.o, j.index), j.goal)
	if j.o.Verify && j.o.Mode.Writes() && j.result.Err == nil {
		j.verifying = true
		j.perform(newPattern(j.o, j.index), done)
	}
	unix.Getrusage(unix.RUSAGE_THREAD, &after)
	r := &j.result
	r.Elapsed = j.clock()
	r.user = time.Duration(after.Utime.Nano() - before.Utime.Nano())
	r.system = time.Duration(after.Stime.Nano() - before.Stime.Nano())
	r.switches = after.Nvcsw + after.Nivcsw - before.Nvcsw - before.Nivcsw
	r.majors, r.minors = after.Majflt-before.Majflt, after.Minflt-before.Minflt
	if r.Err != nil {
		j.stopped.Store(true)
	}
}

// clock is the time since the run began.
func (j *job) clock() time.Duration { return time.Since(j.start) }

// perform does up to goal operations of the pattern and returns how many. While
// the job verifies it reads what was written, and leaves out the reads.
func (j *job) perform(p *pattern, goal int64) (done int64) {
	begin := j.clock()
	j.nextTime = begin + sampleTime
	j.end = math.MaxInt64
	if j.o.Runtime > 0 && !j.verifying {
		j.end = j.o.Runtime
	}
	for now := begin; done < goal && now < j.end && !j.stopped.Load(); done++ {
		op := p.next()
		if j.verifying {
			if !op.write {
				continue
			}
			op.write = false
		}
		if now, j.result.Err = j.do(op); j.result.Err != nil {
			break
		}
	}
	elapsed := j.clock() - begin
	if j.result.Read.IOs > 0 {
		j.result.Read.Runtime += elapsed
	}
	if j.result.Write.IOs > 0 && !j.verifying {
		j.result.Write.Runtime += elapsed
	}
	return done
}

// do does one operation with all that belongs to it, and returns the time after
// it.
func (j *job) do(op op) (now time.Duration, err error) {
	off := j.o.Offset + op.block*j.o.Block
	traffic, act := &j.result.Read, j.target.ReadAt
	if op.write {
		traffic, act = &j.result.Write, j.target.WriteAt
		j.fill(off)
	}
	begin := j.clock()
	n, err := act(j.buf, off)
	now = j.clock()
	if n < len(j.buf) {
		if err == nil || err == io.EOF {
			traffic.Short++
			err = io.ErrUnexpectedEOF
		}
		return now, fmt.Errorf("%s of %d bytes at offset %#x: %w", verb(op), len(j.buf), off, err)
	}
	traffic.count(now-begin, int64(n))
	j.sample(op.write, int64(n), now)
	j.ios.Add(1)
	switch {
	case j.verifying:
		return now, j.check(off)
	case op.write:
		err = j.afterWrite()
	case j.o.Verify && !j.o.Mode.Writes():
		err = verify(j.buf, off, nil)
	}
	if err == nil && j.o.ThinkTime > 0 {
		j.think()
		now = j.clock()
	}
	return now, err
}

func verb(o op) string {
	if o.write {
		return "write"
	}
	return "read"
}

// fill makes the buffer the block to be written at off.
func (j *job) fill(off int64) {
	if j.o.Verify {
		seal(j.buf, off, j.seed(off))
		return
	}
	// No two blocks are the same, so that nobody can save writing one.
	var stamp [8]byte
	binary.LittleEndian.PutUint64(stamp[:], mix(uint64(off)+uint64(j.written)))
	copy(j.buf, stamp[:])
}

// seed tells a block of this run from what was at its offset before; all jobs of
// the run write the same there.
func (j *job) seed(off int64) uint64 { return mix(uint64(j.start.UnixNano()) ^ uint64(off)) }

// check verifies the buffer, which was read at off, where this run has written.
func (j *job) check(off int64) error {
	seed := j.seed(off)
	return verify(j.buf, off, &seed)
}

// afterWrite syncs when it is time to.
func (j *job) afterWrite() error {
	j.written++
	if j.o.SyncEvery > 0 && j.written%j.o.SyncEvery == 0 {
		begin := j.clock()
		if err := j.target.Sync(); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		j.result.Sync.add(j.clock() - begin)
	}
	return nil
}

// think pauses until the job ends at the latest, in pieces, so that a long pause can be
// ended.
func (j *job) think() {
	const piece = 100 * time.Millisecond
	for left := min(j.o.ThinkTime, j.end-j.clock()); left > 0 && !j.stopped.Load(); left -= piece {
		t := unix.NsecToTimespec(int64(min(left, piece)))
		unix.Nanosleep(&t, nil)
	}
}

func (t *Traffic) count(d time.Duration, n int64) {
	t.IOs++
	t.Bytes += n
	t.Latency.add(d)
}

// sample counts an operation that ended at now, and closes the samples whose time
// is over.
func (j *job) sample(write bool, n int64, now time.Duration) {
	s := &j.samples[0]
	if write {
		s = &j.samples[1]
	}
	s.ios++
	s.bytes += n
	if now < j.nextTime {
		return
	}
	seconds := (now - j.nextTime + sampleTime).Seconds()
	for i, t := range []*Traffic{&j.result.Read, &j.result.Write} {
		if j.samples[i].ios > 0 {
			t.IOPS.add(float64(j.samples[i].ios) / seconds)
			t.KiBps.add(float64(j.samples[i].bytes) / 1024 / seconds)
		}
		j.samples[i] = sample{}
	}
	j.nextTime = now + sampleTime
}

// part is how much of the job is over after ios operations and some time.
func (j *job) part(ios int64, elapsed time.Duration) float64 {
	byTime := 0.0
	if j.o.Runtime > 0 {
		byTime = float64(elapsed) / float64(j.o.Runtime)
	}
	goal := float64(j.goal)
	if j.o.Verify && j.o.Mode.Writes() {
		goal *= 2
		if j.o.Mode.mixed() {
			goal = float64(j.goal) * (1 + float64(100-j.o.MixRead)/100)
		}
		byTime /= 2
	}
	return min(max(byTime, float64(ios)/goal), 1)
}

// errno is the number of the error that ended the job, as fio reports it.
func (r *Result) errno() int {
	var number syscall.Errno
	switch {
	case r.Err == nil:
		return 0
	case errors.As(r.Err, &number):
		return int(number)
	case errors.As(r.Err, new(*VerifyError)):
		return int(unix.EILSEQ)
	}
	return int(unix.EIO)
}
